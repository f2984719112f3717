// Package profile has the mappings that come with Holdfast.
package profile

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"holdfast/internal/transition/db/mapping"
)

//go:embed openstack
var files embed.FS

// profile is one mapping: the parts in its folder that are for all releases, and those
// that are for its own.
type profile struct {
	name, folder, release string
	words                 map[string]string // what @{WORD} in the parts stands for
}

// profiles differ by release in a few values. service_version is the version of a
// nova-compute that the release still works with: of Yoga for Zed (nova/objects/service.py
// there: OLDEST_SUPPORTED_SERVICE_VERSION), of Rocky for Stein, which asks for none.
// location_key is Glance's name of a store in a location: store since Train.
var profiles = []profile{
	{"openstack-liberty-stein", "openstack", "stein", map[string]string{
		"service_version": "35",
		"location_key":    "backend",
		"volume_type":     "mapped('volume_type', volume_type_id)",
	}},
	{"openstack-liberty-zed", "openstack", "zed", map[string]string{
		"service_version": "61",
		"location_key":    "store",
		"volume_type": "coalesce(mapped('volume_type', volume_type_id), mapped('default_volume_type', " +
			"if(volume_type_id is null, 'none', null)))",
	}},
}

// sections are the lists of a mapping, each a folder of parts.
var sections = []string{"ids", "tables", "ignore", "checks", "advice"}

// Names of the mappings.
func Names() []string {
	out := make([]string, 0, len(profiles))
	for _, p := range profiles {
		out = append(out, p.name)
	}
	return out
}

// Mapping gives a mapping and its text, which can be used as a file as well.
func Mapping(name string) (*mapping.Mapping, []byte, error) {
	for _, p := range profiles {
		if p.name != name {
			continue
		}
		text, err := p.text()
		if err != nil {
			return nil, nil, fmt.Errorf("profile %s: %w", name, err)
		}
		m, err := mapping.ParseMapping("profile "+name, text)
		return m, text, err
	}
	return nil, nil, fmt.Errorf("profile %q: want one of %s", name, strings.Join(Names(), ", "))
}

// text puts the parts together: a section's parts in the order of their names, without
// those of other releases.
func (p profile) text() ([]byte, error) {
	var out bytes.Buffer
	fmt.Fprintf(&out, "format: %d\nname: %s\nno_zero_dates: true # the drivers of Python 3 can not read them, or "+
		"give texts\n", mapping.Format, p.name)
	for _, s := range sections {
		fmt.Fprintf(&out, "\n%s:\n", s)
		dir := path.Join(p.folder, s)
		parts, err := fs.ReadDir(files, dir)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			if p.foreign(strings.TrimSuffix(part.Name(), ".yaml")) {
				continue
			}
			text, err := fs.ReadFile(files, path.Join(dir, part.Name()))
			if err != nil {
				return nil, err
			}
			out.Write(text)
		}
	}
	return []byte(p.fill(out.String())), nil
}

// foreign reports whether a part is another release's.
func (p profile) foreign(part string) bool {
	for _, x := range profiles {
		if x.release == part {
			return part != p.release
		}
	}
	return false
}

func (p profile) fill(text string) string {
	var pairs []string
	for word, value := range p.words {
		pairs = append(pairs, "@{"+word+"}", value)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
