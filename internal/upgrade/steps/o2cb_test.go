package steps

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
	"holdfast/internal/upgrade"
)

// o2cbRoot makes files below a directory that stands for /.
func o2cbRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	o2cbDebian = "etc/default/o2cb"
	o2cbRedHat = "etc/sysconfig/o2cb"
	o2cbKernel = "sys/kernel/config/cluster/pool/heartbeat/dead_threshold"
)

func TestO2CBSetsTheThreshold(t *testing.T) {
	for name, c := range map[string]struct{ before, after map[string]string }{
		"assigned": {
			map[string]string{o2cbDebian: "# O2CB_HEARTBEAT_THRESHOLD=7\nO2CB_ENABLED=true\n " +
				"O2CB_HEARTBEAT_THRESHOLD=31 # iterations\nO2CB_IDLE_TIMEOUT_MS=30000", o2cbKernel: "31\n"},
			map[string]string{o2cbDebian: "# O2CB_HEARTBEAT_THRESHOLD=7\nO2CB_ENABLED=true\n " +
				"O2CB_HEARTBEAT_THRESHOLD=61 # iterations\nO2CB_IDLE_TIMEOUT_MS=30000", o2cbKernel: "61"},
		},
		"quoted, twice": {
			map[string]string{o2cbRedHat: "export O2CB_HEARTBEAT_THRESHOLD=\"31\"\r\nO2CB_HEARTBEAT_THRESHOLD='7'\nO2CB_HEARTBEAT_THRESHOLD=\n"},
			map[string]string{o2cbRedHat: "export O2CB_HEARTBEAT_THRESHOLD=61\r\nO2CB_HEARTBEAT_THRESHOLD=61\nO2CB_HEARTBEAT_THRESHOLD=61\n"},
		},
		"not assigned": {
			map[string]string{o2cbDebian: "O2CB_ENABLED=true"},
			map[string]string{o2cbDebian: "O2CB_ENABLED=true\nO2CB_HEARTBEAT_THRESHOLD=61\n"},
		},
		"empty": {
			map[string]string{o2cbDebian: ""},
			map[string]string{o2cbDebian: "O2CB_HEARTBEAT_THRESHOLD=61\n"},
		},
		"both": {
			map[string]string{o2cbDebian: "O2CB_HEARTBEAT_THRESHOLD=61\n", o2cbRedHat: "O2CB_HEARTBEAT_THRESHOLD=31\n"},
			map[string]string{o2cbDebian: "O2CB_HEARTBEAT_THRESHOLD=61\n", o2cbRedHat: "O2CB_HEARTBEAT_THRESHOLD=61\n"},
		},
		"no configuration, Debian": {
			map[string]string{o2cbKernel: "31\n"},
			map[string]string{o2cbDebian: "O2CB_HEARTBEAT_THRESHOLD=61\n", o2cbKernel: "61"},
		},
		"no configuration, Red Hat": {
			map[string]string{o2cbKernel: "31\n", "etc/sysconfig/network": ""},
			map[string]string{o2cbRedHat: "O2CB_HEARTBEAT_THRESHOLD=61\n", o2cbKernel: "61"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := &O2CB{Root: o2cbRoot(t, c.before)}
			task, _ := enginetest.Task(t, "o2cb", upgrade.O2CBArgs{Threshold: 61})
			enginetest.Probed(t, d, task, engine.NotDone)
			for range 2 { // the second time it changes nothing
				if err := d.Do(t.Context(), task); err != nil {
					t.Fatal(err)
				}
				for file, want := range c.after {
					if got, err := os.ReadFile(filepath.Join(d.Root, file)); err != nil || string(got) != want {
						t.Errorf("%s is %q, %v; want %q", file, got, err, want)
					}
				}
				enginetest.Probed(t, d, task, engine.ProbedDone)
			}
		})
	}
}

func TestO2CBKeepsTheFileAsItIs(t *testing.T) {
	root := o2cbRoot(t, map[string]string{"etc/real": "O2CB_HEARTBEAT_THRESHOLD=31\n",
		"etc/default/.real.holdfast": "left over", "etc/.real.holdfast": "left over"})
	real := filepath.Join(root, "etc/real")
	if err := os.Chmod(real, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(root, o2cbDebian)
	if err := os.Symlink("../real", link); err != nil {
		t.Fatal(err)
	}
	task, heard := enginetest.Task(t, "o2cb", upgrade.O2CBArgs{Threshold: 61})
	if err := (&O2CB{Root: root}).Do(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(real)
	if err != nil || st.Mode() != 0o640 {
		t.Errorf("mode %v, %v; want 0640", st.Mode(), err)
	}
	if to, err := os.Readlink(link); err != nil || to != "../real" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if _, err := os.Lstat(filepath.Join(root, "etc/.real.holdfast")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left over: %v", err)
	}
	enginetest.Has(t, "log", heard.Log(), "O2CB_HEARTBEAT_THRESHOLD=61 now", "no ocfs2 cluster runs here")
}

func TestO2CBThatTheKernelDoesNotTake(t *testing.T) {
	for name, write := range map[string]func(string, string) error{
		"passes over": func(string, string) error { return nil },
		"refuses":     func(string, string) error { return errors.New("device busy") },
	} {
		root := o2cbRoot(t, map[string]string{o2cbDebian: "O2CB_HEARTBEAT_THRESHOLD=31\n", o2cbKernel: "31\n"})
		d := &O2CB{Root: root, write: write}
		task, _ := enginetest.Task(t, "o2cb", upgrade.O2CBArgs{Threshold: 61})
		err := d.Do(t.Context(), task)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		enginetest.Has(t, name, err.Error(), "cluster pool", "stays 31", "suspend all shared pools")
		if text, err := os.ReadFile(filepath.Join(root, o2cbDebian)); err != nil || string(text) != "O2CB_HEARTBEAT_THRESHOLD=61\n" {
			t.Errorf("%s: configuration %q, %v", name, text, err)
		}
		enginetest.Probed(t, d, task, engine.NotDone)
	}
}

func TestO2CBRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		files     map[string]string
		threshold int
		want      string
	}{
		"no ocfs2":     {nil, 61, "neither /etc/default/o2cb nor /etc/sysconfig/o2cb"},
		"too small":    {map[string]string{o2cbDebian: ""}, 2, "want 3 to 3601"},
		"too large":    {map[string]string{o2cbDebian: ""}, 3602, "want 3 to 3601"},
		"a directory":  {map[string]string{o2cbDebian + "/x": ""}, 61, "want a file"},
		"not a number": {map[string]string{o2cbDebian: "", o2cbKernel: "x"}, 61, "read the threshold in use"},
	} {
		task, _ := enginetest.Task(t, "o2cb", upgrade.O2CBArgs{Threshold: c.threshold})
		err := (&O2CB{Root: o2cbRoot(t, c.files)}).Do(t.Context(), task)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		enginetest.Has(t, name, err.Error(), c.want)
	}
}
