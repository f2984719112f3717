package durable

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
		return p
	}
	for text, want := range map[string]string{
		"a b\n": "a b", "ab": "ab", "ab\r\n": "ab", "ab\n\n": "ab\n", strings.Repeat("x", 1023) + "\n": strings.Repeat("x", 1023),
	} {
		if got, err := ReadSecret(path("good", text, 0o600)); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]string{
		path("group", "s3cret", 0o640):                 "chmod 600",
		path("world", "s3cret", 0o604):                 "chmod 600",
		path("empty", "\n", 0o600):                     "is empty",
		path("long", strings.Repeat("x", 1025), 0o600): "longer than 1024",
		filepath.Join(dir, "missing"):                  "no such file",
		pipe:                                           "no regular file",
		dir:                                            "no regular file",
	} {
		_, err := ReadSecret(p)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v; want %q", p, err, want)
		}
	}
}
