package libvirt

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const testTarget = "iqn.2001-05.com.example:a"

func TestISCSISessions(t *testing.T) {
	st := fakeSysfs(t).storage()
	got, err := st.sessions()
	want := []Session{
		{Target: testTarget, Portal: "10.0.0.1:3260", Devices: []string{"sdb"}},
		{Target: testTarget, Portal: "[fd00::1]:3260", Devices: []string{"sdc"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	st.sys = t.TempDir() // without the kernel's module
	if got, err := st.sessions(); err != nil || got != nil {
		t.Errorf("without iSCSI: %+v, %v", got, err)
	}
}

// TestISCSILoginAndLogout answers as open-iscsi 2.1.8 does, by the exit codes of
// iscsiadm(8).
func TestISCSILoginAndLogout(t *testing.T) {
	s := fakeSysfs(t)
	proc := t.TempDir()
	mounts := func(text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(proc, "self"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, "self/mountinfo"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mounts("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n")
	if err := os.Remove(filepath.Join(s.sys, "devices/virtual/block/dm-0/holders/dm-1")); err != nil {
		t.Fatal(err) // nothing is on the multipath device
	}
	f, err := NewFleet(FleetOptions{SysDir: s.sys, DevDir: s.dev, ProcDir: proc})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it has opened nothing
	var asked []string
	var answer error
	i := f.ISCSI(func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a call without deadline")
		}
		asked = append(asked, name+" "+strings.Join(args, " "))
		return nil, answer
	})
	login := func() error { return i.Login(t.Context(), testTarget, "10.0.0.1:3260") }
	logout := func() error { return i.Logout(t.Context(), testTarget, "") }
	check := func(what string, err error, fine bool) {
		t.Helper()
		if (err == nil) != fine {
			t.Errorf("%s: %v", what, err)
		}
	}
	check("login", login(), true)
	check("logout", logout(), true)
	want := []string{
		"iscsiadm -m node -T " + testTarget + " -p 10.0.0.1:3260 --login",
		"iscsiadm -m node -T " + testTarget + " --logout",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
	answer = &ExitError{Code: iscsiSessExists, Stderr: "iscsiadm: default: 1 session requested, but 1 already present.\n"}
	check("login again", login(), true)
	check("logout with that code", logout(), false)
	answer = &ExitError{Code: iscsiNoObjects, Stderr: "iscsiadm: No matching sessions found\n"}
	check("logout again", logout(), true)
	check("login to what was not discovered", login(), false)
	answer = &ExitError{Code: 8, Stderr: "iscsiadm: connection login retries (reopen_max) 5 exceeded\n"}
	if err := login(); err == nil || !strings.Contains(err.Error(), "exit code 8: iscsiadm: connection login retries") {
		t.Errorf("login without an answer: %v", err)
	}
	answer = nil

	n := len(asked)
	for _, bad := range []string{"", "--help", "iqn.x;reboot", "iqn"} {
		check("login to "+bad, i.Login(t.Context(), bad, ""), false)
	}
	check("portal", i.Login(t.Context(), testTarget, "--op"), false)
	for _, m := range []string{"/dev/sdb", "/dev/sdc", "/dev/sdb1", "/dev/mapper/mpatha", "/dev/dm-0"} {
		mounts("1 0 8:1 / /vms/a rw - ocfs2 " + m + " rw\n")
		if err := logout(); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "/vms/a") {
			t.Errorf("logout with %s mounted: %v, want ErrInUse", m, err)
		}
	}
	mounts("")
	s.write(t, "devices/virtual/block/dm-0/holders/dm-9", "") // a logical volume
	if err := logout(); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "dm-9 on /dev/mapper/mpatha") {
		t.Errorf("logout below a logical volume: %v, want ErrInUse", err)
	}
	if len(asked) != n {
		t.Errorf("asked although it was refused: %q", asked[n:])
	}
}

func TestExecTellsExitCodes(t *testing.T) {
	out, err := Exec(t.Context(), "sh", "-c", "echo out; echo bad >&2; exit 21")
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 21 || exit.Stderr != "bad\n" || string(out) != "out\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := Exec(t.Context(), "echo", "x"); err != nil || string(out) != "x\n" {
		t.Errorf("%q, %v", out, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Exec(ctx, "sleep", "60"); err == nil || errors.As(err, &exit) && exit.Code == 0 {
		t.Errorf("killed: %v", err)
	}
	if _, err := Exec(t.Context(), "/no/program"); err == nil {
		t.Error("a program that is not there ran")
	}
}
