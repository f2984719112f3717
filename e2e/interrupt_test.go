package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast/testbed/need"
	helper "holdfast/testbed/try"
)

// folders are those of laboratories that this process has made.
var folders struct {
	sync.Mutex
	dirs []string
}

// newFolder makes the folder of a laboratory, which an interruption removes.
func newFolder() (string, error) {
	folders.Lock()
	defer folders.Unlock()
	dir, err := os.MkdirTemp("/var/tmp", "holdfast-e2e-")
	if err == nil {
		folders.dirs = append(folders.dirs, dir)
	}
	return dir, err
}

// removal takes laboratories down, and removes their folders.
const removal = `exe=$1; shift
for dir; do
	[ ! -e "$dir/lab/state.json" ] || "$exe" --dir "$dir/lab" down || continue
	rm -rf "$dir"
done
exit 130`

// removedWhenInterrupted has an interruption end what this process has made. A process that removes it takes this one's place, so
// that nothing more is made meanwhile, and whoever started this one waits for it.
func removedWhenInterrupted() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-told
		folders.Lock() // for good
		exe, err := filepath.Abs(theLab)
		if err == nil {
			err = syscall.Exec("/bin/sh", slices.Concat([]string{"sh", "-c", removal, "sh", exe}, folders.dirs), os.Environ())
		}
		fmt.Fprintln(os.Stderr, "e2e: interrupted; remove the laboratories:", err)
		os.Exit(1)
	}()
}

func TestAnInterruptedDrillLeavesNoLaboratory(t *testing.T) {
	need.Drill(t, "the laboratory: a drill that is interrupted while its hosts are made or run removes them", need.Root, built)
	needLab(t)
	helper.Must(t, takeDown()) // there is room for one
	for name, is := range map[string]func(dir string) bool{
		"are made": func(dir string) bool { _, err := os.Stat(filepath.Join(dir, "lab", "state.json")); return err == nil },
		"run":      func(dir string) bool { return len(helper.Processes(t, dir+"/lab/hosts/")) >= 3 },
	} {
		t.Run(name, func(t *testing.T) {
			before := foldersThere(t)
			cmd := exec.CommandContext(helper.Context(t), os.Args[0], "-test.run=^TestReportOfAHost$")
			var said strings.Builder
			cmd.Stdout, cmd.Stderr = &said, &said
			helper.Must(t, cmd.Start())
			dir := ""
			helper.Until(t, "its hosts", func() bool {
				for _, d := range foldersThere(t) {
					if !slices.Contains(before, d) && is(d) {
						dir = d
					}
				}
				return dir != ""
			})
			helper.Must(t, cmd.Process.Signal(os.Interrupt))
			if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 130 {
				t.Errorf("%v: want exit code 130: %s", err, &said)
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("its folder: %v: %s", err, &said)
			}
			if left := helper.Processes(t, dir); len(left) > 0 {
				t.Errorf("processes of it: %v", left)
			}
		})
	}
}

// foldersThere are those of all laboratories of such tests.
func foldersThere(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("/var/tmp/holdfast-e2e-*")
	helper.Must(t, err)
	return all
}
