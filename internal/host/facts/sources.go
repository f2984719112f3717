package facts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chronyFiles is where chronyd's sources of time stand, as patterns.
var chronyFiles = []string{
	"/etc/chrony.conf", "/etc/chrony.d/*.conf", "/etc/chrony/chrony.conf", "/etc/chrony/conf.d/*.conf", "/etc/chrony/sources.d/*.sources",
}

// TimeSource is from whom chronyd of this host is told to take the time.
type TimeSource struct {
	Name string // or address
	File string
	Line string
}

// TimeSources reads chronyd's files. An error is about those that can not be read; the
// others are told.
func TimeSources() ([]TimeSource, error) { return timeSources(chronyFiles) }

func timeSources(patterns []string) (out []TimeSource, err error) {
	for _, p := range patterns {
		files, gerr := filepath.Glob(p)
		err = errors.Join(err, gerr)
		for _, file := range files {
			text, rerr := os.ReadFile(file)
			err = errors.Join(err, rerr)
			for line := range strings.Lines(string(text)) {
				f := strings.Fields(line) // chrony.conf(5): the words of directives have no case
				if len(f) > 1 && slices.Contains([]string{"server", "peer", "pool"}, strings.ToLower(f[0])) {
					out = append(out, TimeSource{f[1], file, strings.TrimSpace(line)})
				}
			}
		}
	}
	return out, err
}

// TimeFromItself tells where chronyd of this host, which is a time server of the
// management VM, is told to take the time from the host itself; "" when it is not.
func TimeFromItself(sources []TimeSource, err error, names ...string) string {
	for _, s := range sources {
		if slices.Contains(names, s.Name) {
			return fmt.Sprintf("this host is in ChronyServers, and takes the time from itself: %s: %s", s.File, s.Line)
		}
	}
	if err != nil {
		return fmt.Sprintf("this host is in ChronyServers, and its time sources can not be read: %v", err)
	}
	return ""
}
