package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/durable"
)

// Names are the hosts that have ever reported, as this host remembers them on disk: a certificate of such a name is no
// operator's, also when the store does not know the host, because it was restored from a backup.
type Names struct {
	file string

	mu  sync.Mutex
	all map[cluster.HostID]bool
}

// OpenNames reads them from a file, a list in JSON; none when it is not there. With an error there are none either, and they
// are learned anew: no agent stays down for that. Who takes a name out of the file makes it an operator's again at the next
// start of the agent.
func OpenNames(file string) (*Names, error) {
	n := &Names{file: file, all: map[cluster.HostID]bool{}}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	var names []cluster.HostID
	if err == nil {
		err = json.Unmarshal(text, &names)
	}
	if err != nil {
		return n, fmt.Errorf("read the names of hosts that have reported: %s: %w: want a list in JSON", file, err)
	}
	for _, h := range names {
		n.all[h] = true
	}
	return n, nil
}

// has tells whether a host has reported; nil has none.
func (n *Names) has(h cluster.HostID) bool {
	if n == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all[h]
}

// add writes those that are new. With an error they count until this process ends.
func (n *Names) add(hosts []cluster.HostID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := len(n.all)
	for _, h := range hosts {
		n.all[h] = true
	}
	if len(n.all) == before {
		return nil
	}
	text, err := json.Marshal(slices.Sorted(maps.Keys(n.all)))
	if err == nil {
		err = durable.WriteFile(n.file, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("remember the names of hosts that have reported: %w", err)
	}
	return nil
}
