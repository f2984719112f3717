package agent

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/votedisk"
	"holdfast/internal/pair/arbiter"
)

// TestADiskNamesOne: of two nodes that ask the same disk for a generation one wins, and the other
// one is told that it has lost. A disk of a peer without a watchdog is not asked: nothing would end
// what that one runs. What was known last of the watchdog counts while the store does not answer.
func TestADiskNamesOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "votes")
	var both [2]*arbitration
	works, known := true, true
	for i := range both {
		both[i] = &arbitration{dataDir: t.TempDir(), m: &arbiter.Machine{}}
		both[i].byDisk(votedisk.New(path, "p", i), func() (bool, bool) { return works, known })
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
		o, err := both[i].contest(t.Context(), arbiter.Contest{Gen: gen})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	if won, lost := contest(1, 5), contest(0, 5); !won.Won || won.Gen <= 5 || !lost.Lost || lost.Won {
		t.Errorf("the first %+v, the second %+v", won, lost)
	}
	works, known = false, false
	if o := contest(1, 5); !o.Won {
		t.Errorf("it asks again while the store does not answer: %+v", o)
	}
	known = true
	if o, err := both[0].contest(t.Context(), arbiter.Contest{Gen: 6}); err == nil || o.Won {
		t.Errorf("the peer has no watchdog: %+v, %v", o, err)
	}
}
