package arbitrate

import (
	"fmt"
	"path/filepath"

	"holdfast/internal/cluster"
)

// choice is a person's word whose data are kept, of two stores that have gone on alone. It is written down, as an
// agent begins anew when it meets another store, and may do so between the word and what follows from it.
type choice struct {
	Gen, Peer uint64 // of this node's store, and of the other one's
	Keep      cluster.HostID
}

func choiceFile(dataDir string) string { return filepath.Join(dataDir, "kept.json") }

// loadChoice reads the word; none: the zero one.
func loadChoice(dataDir string) (c choice, err error) {
	if err := readNote(choiceFile(dataDir), &c); err != nil {
		return c, fmt.Errorf("read whose data are kept: %s: %w", choiceFile(dataDir), err)
	}
	return c, nil
}

func saveChoice(dataDir string, c choice) error {
	if err := writeNote(choiceFile(dataDir), c); err != nil {
		return fmt.Errorf("write down whose data are kept: %w", err)
	}
	return nil
}

// choose takes in whose data are kept: as the peer says, so that both agree also when both were told, or as was
// said before this process began. The caller holds mu.
func (x *Arbitration) choose(heard bool) error {
	if k := x.keep; heard && k != "" && (x.m.Keep == "" || k < x.m.Keep) {
		return x.keeps(k)
	}
	if x.m.Keep == "" && x.chosen.Gen == x.m.Seen.Store.Gen && x.chosen.Peer == x.m.PeerStatus.Store.Gen {
		x.m.Resolve(x.chosen.Keep)
	}
	return nil
}

// keeps has the machine go by a person's word, once that is written down. The caller holds mu.
func (x *Arbitration) keeps(k cluster.HostID) error {
	before := x.m.Keep
	x.m.Resolve(k)
	c := choice{x.m.Seen.Store.Gen, x.m.PeerStatus.Store.Gen, k}
	if x.m.Keep != k || x.chosen == c { // it is about nothing that is here, or known
		return nil
	}
	if err := saveChoice(x.DataDir, c); err != nil {
		x.m.Keep = before
		return err
	}
	x.chosen = c
	return nil
}
