package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
)

// places are the folders whose files are compared. exact are those where also a change
// of a file, and its loss, count.
var (
	places = []string{"/srv", "/etc", "/var/lib", "/var/tmp", "/tmp"}
	exact  = []string{"/srv", "/etc"}
	// caches hold what can be had again: lists of packages.
	caches = []string{"/var/lib/apt/lists", "/var/lib/apt/periodic"}
)

// netns is where network namespaces have names.
const netns = "/run/netns"

// snapshot is what was there at one moment.
type snapshot struct {
	Taken     time.Time
	Files     map[string]entry
	Mounts    []string // point, type and source
	Networks  []string // names of namespaces
	Links     []string // in the namespace of this process
	Groups    []string // control groups at the top
	Processes []process
	Company   bool // another run of such tests, or a laboratory, is here
}

// entry is a file or folder.
type entry struct {
	Stamp string    `json:",omitempty"` // of files in exact: changes when the file does
	Made  time.Time `json:",omitzero"`  // last change of its inode
	UID   uint32    `json:",omitempty"`
}

// look makes a snapshot.
func (r run) look() (snapshot, error) {
	s := snapshot{Taken: time.Now(), Files: map[string]entry{}}
	skip := append(r.goCaches(), append([]string{r.root}, caches...)...)
	for _, p := range places {
		if err := walk(p, skip, s.Files); err != nil {
			return s, err
		}
	}
	var err error
	if s.Mounts, s.Groups, err = mounts(); err != nil {
		return s, err
	}
	s.Networks = names(netns)
	links, err := net.Interfaces()
	if err != nil {
		return s, fmt.Errorf("list network links: %w", err)
	}
	for _, l := range links {
		s.Links = append(s.Links, l.Name)
	}
	if s.Processes, err = processes(r.mark); err != nil {
		return s, err
	}
	s.Company = r.company(s.Processes)
	return s, nil
}

// goCaches are where Go keeps what it has built and fetched: perhaps in a place that is
// compared. Without Go there are none.
func (r run) goCaches() []string {
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		return nil
	}
	return strings.Fields(string(out))
}

// walk notes all below a folder, on its own file system. Who looks while others work
// finds that things have gone meanwhile.
func walk(top string, skip []string, into map[string]entry) error {
	var device uint64
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err == nil && slices.Contains(skip, path) {
			return fs.SkipDir
		}
		var info fs.FileInfo
		if err == nil {
			info, err = os.Lstat(path)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil
		}
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("%s: no inode", path)
		}
		if path == top {
			device = st.Dev
		}
		e := entry{Made: time.Unix(st.Ctim.Unix()), UID: st.Uid}
		if within(path, exact) {
			e.Stamp = stamp(info)
		}
		into[path] = e
		if st.Dev != device && info.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at %s: %w", top, err)
	}
	return nil
}

// stamp differs when a file has changed. A folder's entries have their own.
func stamp(info fs.FileInfo) string {
	if info.IsDir() {
		return info.Mode().String()
	}
	return fmt.Sprintf("%s %d %d", info.Mode(), info.Size(), info.ModTime().UnixNano())
}

// within tells whether a path is one of the folders or below one.
func within(path string, folders []string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

// names lists a folder; none when it is not there.
func names(dir string) (all []string) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		all = append(all, e.Name())
	}
	return all
}

// mounts lists mounts, and the control groups at the top: of version 2 where it is
// mounted, else of version 1's freezer.
func mounts() (all, groups []string, err error) {
	found, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, nil, fmt.Errorf("list mounts: %w", err)
	}
	v1, v2 := "", ""
	for _, m := range found {
		if m.Mountpoint != netns { // ip makes it with the first namespace, and leaves it
			all = append(all, strings.Join([]string{m.Mountpoint, m.FSType, m.Source}, " "))
		}
		if m.FSType == "cgroup2" {
			v2 = m.Mountpoint
		} else if m.FSType == "cgroup" && slices.Contains(strings.Split(m.VFSOptions, ","), "freezer") {
			v1 = m.Mountpoint
		}
	}
	if v2 != "" {
		v1 = v2
	}
	for _, name := range names(v1) {
		if info, err := os.Stat(filepath.Join(v1, name)); v1 != "" && err == nil && info.IsDir() {
			groups = append(groups, name)
		}
	}
	return all, groups, nil
}
