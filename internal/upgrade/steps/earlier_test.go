package steps

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/reboot"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/testbed/earlier"
)

// stillUp is a host that has not gone down yet.
type stillUp string

func (b stillUp) Boot() (string, error)                      { return string(b), nil }
func (stillUp) Reboot(context.Context, reboot.Request) error { return reboot.ErrNotOrdered }

// TestRebootOfAnEarlierVersionIsOrdered: the mark says that another version has ordered the
// reboot of this boot. It is not ordered once more.
func TestRebootOfAnEarlierVersionIsOrdered(t *testing.T) {
	file := filepath.Join(earlier.Files(t, "prepared"), "upgrade/reboot.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := earlier.Whole[rebootMark](t, "mark of the reboot", text)
	if m.Job != earlier.Upgrade || m.Step != "h2/reboot" || m.Attempt != 1 || m.Boot == "" {
		t.Errorf("mark %+v", m)
	}
	d := Reboot{Host: stillUp(m.Boot), File: file, Clock: func() cluster.Instant { return m.At.Add(time.Second) }}
	got, err := d.Probe(t.Context(), engine.Task{
		Job: earlier.Upgrade, Step: job.Step{ID: "h2/reboot", Host: earlier.Host}, Attempt: 1, Boot: m.Boot, Log: io.Discard, Note: func(string, int) {},
	})
	if err != nil || got != engine.StillRunning {
		t.Errorf("probed as %d, %v", got, err)
	}
}
