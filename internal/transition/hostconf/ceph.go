package hostconf

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/cluster"
)

// Finding is what is wrong in the files of hosts, although each can be written.
type Finding struct {
	Path    string           `json:"path"`
	Finding string           `json:"finding"`
	Remedy  string           `json:"remedy"`
	Hosts   []cluster.HostID `json:"hosts"`
}

// hammer are the features of images that Ceph's Hammer (0.94) knows, by name and bit: newer clients make images with
// more unless they are told (librbd of Luminous: 61).
var hammer = map[string]int{"layering": 1, "striping": 2, "exclusive-lock": 4, "object-map": 8}

const hammerBits = 15

// Findings tells what is wrong between files of Ceph's clients on hosts: what 360's report met after its upgrade, when
// volumes were attached and guests restarted. A finding of several hosts is told once.
func Findings(hosts []Host) []Finding {
	out := []Finding{}
	add := func(host cluster.HostID, file, finding, remedy string) {
		i := slices.IndexFunc(out, func(f Finding) bool { return f.Path == file && f.Finding == finding })
		if i < 0 {
			i = len(out)
			out = append(out, Finding{Path: file, Finding: finding, Remedy: remedy})
		}
		out[i].Hosts = append(out[i].Hosts, host)
	}
	for _, h := range hosts {
		auth := ""
		for _, f := range h.Files {
			if path.Base(f.Path) == "ceph.conf" {
				conf := ini(f.Content)
				if finding := features(conf); finding != "" {
					add(h.Name, f.Path, finding, "[client] rbd_default_features = 13, where the cluster is that old: "+
						"layering, exclusive-lock and object-map")
				}
				auth = authentication(conf)
			}
		}
		for _, f := range h.Files {
			for _, s := range ini(f.Content) {
				if name := credential(s); name != "" && auth == "none" {
					add(h.Name, f.Path, fmt.Sprintf("%s is set, and ceph.conf says that the cluster asks for no "+
						"authentication", name), "leave it out: a key that the cluster does not know makes hard reboots and the attaching of volumes fail")
				}
				if s.name == "libvirt" && s.key == "images_type" && s.value == "rbd" && auth == "cephx" && !has(f.Content, "libvirt", "rbd_user") {
					add(h.Name, f.Path, "[libvirt] images_type is rbd, and rbd_user is not set, while ceph.conf "+
						"wants cephx", "set rbd_user and rbd_secret_uuid, or auth_client_required = none where the cluster asks for none")
				}
			}
		}
	}
	return out
}

// setting is a line of a file of sections, with its words as Ceph reads them: blanks and dashes are underscores.
type setting struct{ name, key, value string }

// ini reads settings; of what is no setting nothing is told.
func ini(text string) (out []setting) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = strings.TrimSpace(line[1 : len(line)-1])
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if i := strings.IndexAny(value, "#;"); i >= 0 && (i == 0 || value[i-1] == ' ') {
			value = value[:i]
		}
		key = strings.Join(strings.FieldsFunc(strings.ToLower(key),
			func(r rune) bool { return r == ' ' || r == '\t' || r == '-' || r == '_' }), "_")
		out = append(out, setting{section, key, strings.Trim(strings.TrimSpace(value), `"'`)})
	}
	return out
}

func has(text, section, key string) bool {
	return slices.ContainsFunc(ini(text), func(s setting) bool { return s.name == section && s.key == key && s.value != "" })
}

// of is what a client's setting is: that of [client] counts before that of [global].
func of(conf []setting, key string) (value string, set bool) {
	for _, section := range []string{"global", "client"} {
		for _, s := range conf {
			if s.name == section && s.key == key {
				value, set = s.value, true
			}
		}
	}
	return value, set
}

// features tells what is wrong with the features of new images, "": nothing for a cluster as old as Hammer.
func features(conf []setting) string {
	value, set := of(conf, "rbd_default_features")
	if !set {
		return "rbd_default_features is not set: new clients make images with features (61) of which Ceph's Hammer knows 15 only"
	}
	bits, err := strconv.Atoi(value)
	if err == nil && bits&^hammerBits != 0 {
		return fmt.Sprintf("rbd_default_features is %d: Ceph's Hammer does not know %d of it", bits, bits&^hammerBits)
	}
	if err != nil {
		for _, word := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
			if hammer[word] == 0 {
				return fmt.Sprintf("rbd_default_features has %s, which Ceph's Hammer does not know", word)
			}
		}
	}
	return ""
}

// authentication is what clients are to do: cephx or none. Ceph's default is cephx.
func authentication(conf []setting) string {
	for _, key := range []string{"auth_client_required", "auth_supported"} {
		if value, set := of(conf, key); set {
			if slices.Contains(strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }), "cephx") {
				return "cephx"
			}
			return "none"
		}
	}
	return "cephx"
}

// credential names a setting that logs a client of Ceph in; "": it does not.
func credential(s setting) string {
	if s.value == "" || !slices.Contains([]string{"rbd_user", "rbd_secret_uuid", "rbd_store_user"}, s.key) {
		return ""
	}
	return fmt.Sprintf("[%s] %s", s.name, s.key)
}
