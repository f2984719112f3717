package steps

import (
	"strings"
	"testing"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/host/reboot"
	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
)

var (
	_ RebootHost = (*reboot.Host)(nil)
	_ PoolHost   = (*pools.Pools)(nil)
	_ VMHost     = (*guests.Fleet)(nil)
)

func TestStepsRefuseArgumentsThatAreNone(t *testing.T) {
	for name, d := range map[string]engine.Executor{
		"reboot": &Reboot{}, "verify": &Verify{}, "detach": &StorageDetach{}, "attach": &StorageAttach{},
		"stop": &VMStop{}, "start": &VMStart{}, "o2cb": &O2CB{Root: t.TempDir()},
	} {
		task, _ := enginetest.Task(t, name, nil)
		task.Step.Args = []byte("[1]")
		err := d.Do(t.Context(), task)
		if err == nil || !strings.Contains(err.Error(), "read the arguments of h1/"+name) {
			t.Errorf("%s: %v, want that its arguments can not be read", name, err)
		}
	}
}
