package arbitrate

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/host/votedisk"
	"holdfast/internal/pair/arbiter"
)

// watched is a core whose status tells of the peer's watchdog.
type watched struct {
	Core
	works, known bool
}

func (w *watched) Status() cluster.Status {
	h := cluster.HostStatus{Host: cluster.Host{Name: "peer"}, Alive: true}
	if w.works {
		h.Guard = 1
	}
	return cluster.Status{Connected: w.known, Hosts: []cluster.HostStatus{h}}
}

// TestADiskNamesOne: of two nodes that ask the same disk for a generation one wins, and the other
// one is told that it has lost. A disk of a peer without a watchdog is not asked: nothing would end
// what that one runs. What was known last of the watchdog counts while the store does not answer.
func TestADiskNamesOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "votes")
	var both [2]*Arbitration
	peer := &watched{works: true, known: true}
	for i := range both {
		both[i] = &Arbitration{
			Options: Options{Peer: "peer", Arbiter: Votes{votedisk.New(path, "p", i)}, DataDir: t.TempDir()},
			m:       &arbiter.Machine{}, core: peer,
		}
	}
	if err := both[0].check(t.Context(), ""); err == nil {
		t.Error("a disk that is not there answers")
	}
	if err := votedisk.New(path, "p", 0).Prepare(t.Context()); errors.Is(err, unix.EINVAL) {
		t.Skip("skipped: tmpfs of this kernel knows no O_DIRECT (Linux 6.6 does)")
	} else if err != nil {
		t.Fatal(err)
	}
	contest := func(i int, gen uint64) arbiter.Outcome {
		o, err := both[i].contest(t.Context(), arbiter.Tiebreak{Gen: gen})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	if won, lost := contest(1, 5), contest(0, 5); !won.Won || won.Gen <= 5 || !lost.Lost || lost.Won {
		t.Errorf("the first %+v, the second %+v", won, lost)
	}
	peer.works, peer.known = false, false
	if o := contest(1, 5); !o.Won {
		t.Errorf("it asks again while the store does not answer: %+v", o)
	}
	peer.known = true
	if o, err := both[0].contest(t.Context(), arbiter.Tiebreak{Gen: 6}); err == nil || o.Won {
		t.Errorf("the peer has no watchdog: %+v, %v", o, err)
	}
}
