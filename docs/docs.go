// Package docs has the pages of this folder from which manual pages are made.
package docs

import (
	_ "embed"
	"strings"
)

// Configuration is the page about the configuration of a cluster and the settings of an agent.
//
//go:embed configuration.md
var Configuration string

//go:embed install.md
var installation string

// Zsha is the section about the commands of the source tool.
func Zsha() string {
	_, section, _ := strings.Cut(installation, "\n## By the source tool's name\n")
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}
