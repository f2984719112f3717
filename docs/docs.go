// Package docs has the pages of this folder: for manual pages, and for the help of the console.
package docs

import (
	"embed"
	"strings"
)

// Pages are the pages about the program, in English (NAME.md) and, some, in Chinese (NAME.zh-CN.md). Those about decisions and
// formats are not among them.
//
//go:embed *.md from/*.md
var Pages embed.FS

// Configuration is the page about the configuration of a cluster and the settings of an agent.
func Configuration() string { return page("configuration.md") }

// Zsha is the section about the commands of the source tool.
func Zsha() string {
	_, section, _ := strings.Cut(page("install.md"), "\n## By the source tool's name\n")
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

func page(name string) string {
	text, err := Pages.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return string(text)
}
