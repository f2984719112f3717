package bundle

import (
	"fmt"
	"path"

	"golang.org/x/text/unicode/norm"

	"holdfast/internal/inventory/manifest"
)

// maxNames bounds the memory for the names of members, in bytes.
const maxNames = 32 << 20

// names are the names of members so far, and of the directories they are in. No
// two may look the same: not in upper and lower case, and not in another form
// of Unicode.
type names struct {
	seen map[string]string // name by key; of a directory, with / behind, one that is inside
	size int               // bytes of all keys
}

// add says what is wrong with a name, or remembers it.
func (n *names) add(name string) error {
	if bad := manifest.PathFault(name); bad != "" {
		return refuse(name, "%s", bad)
	}
	if !norm.NFC.IsNormalString(name) {
		return refuse(name, "the name is not in Unicode's normal form C")
	}
	key := lookAlike(name)
	first, taken := n.seen[key]
	switch {
	case taken && first == name:
		return refuse(name, "it is there twice")
	case taken:
		return refuse(name, "the name can be taken for that of %s", shown(first))
	}
	if inside, ok := n.seen[key+"/"]; ok {
		return refuse(name, "it is a file, and %s is below it", shown(inside))
	}
	if err := n.put(key, name); err != nil {
		return err
	}
	for dir := path.Dir(key); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if first, ok := n.seen[dir]; ok {
			return refuse(name, "it is below %s, which is a file", shown(first))
		}
		if _, known := n.seen[dir+"/"]; known {
			break // and so are those above it
		}
		if err := n.put(dir+"/", name); err != nil {
			return err
		}
	}
	return nil
}

func (n *names) put(key, name string) error {
	if n.size += len(key); n.size > maxNames {
		return refuse(name, "the names have more than %d MiB in all", maxNames>>20)
	}
	if n.seen == nil {
		n.seen = map[string]string{}
	}
	n.seen[key] = name
	return nil
}

// lookAlike returns a key that names share when they can be taken for one
// another on a file system that folds them.
func lookAlike(name string) string { return manifest.FoldPath(norm.NFKC.String(name)) }

// nameFaults finds files of a manifest whose names look alike; plain doubles are
// for Manifest.Check.
func nameFaults(m *manifest.Manifest) []manifest.Fault {
	var faults []manifest.Fault
	seen := map[string]string{}
	for i := range m.Modules {
		for j, f := range m.Modules[i].Files {
			at := fmt.Sprintf("modules[%d].files[%d].path", i, j)
			if !norm.NFC.IsNormalString(f.Path) {
				faults = append(faults, manifest.Fault{Path: at, Value: f.Path, Want: "want a name in Unicode's normal form C"})
			}
			key := lookAlike(f.Path)
			if first, taken := seen[key]; taken && manifest.FoldPath(first) != manifest.FoldPath(f.Path) {
				faults = append(faults, manifest.Fault{Path: at, Value: f.Path, Want: fmt.Sprintf("want a name that can not be taken for %q", first)})
			}
			seen[key] = f.Path
		}
	}
	return faults
}
