package cloud

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

func openrcFile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "openrc")
	try.Must(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// TestOpenrc: what the file says is what a shell makes of it.
func TestOpenrc(t *testing.T) {
	file := openrcFile(t, "# the admin's\nunset OS_SERVICE_TOKEN\nexport OS_AUTH_URL=http://10.0.0.1:5000/v3\n  OS_USERNAME=admin # of all\n"+
		`export OS_PASSWORD='a$b "c" & d'"'"\`+"`e\nexport OS_PROJECT_NAME=\"the \\\"admin\\\" \\$ \\x "+
		"\\\\\"\nOS_REGION_NAME=R\\ 1\nOS_EMPTY=\nOS_JOINED=a\"b c\"d\n")
	get, err := Openrc(file)
	try.Must(t, err)
	for _, name := range []string{"OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_REGION_NAME",
		"OS_EMPTY", "OS_JOINED", "OS_NONE"} {
		want, err := exec.CommandContext(t.Context(), "sh", "-c", `. "$1"; eval "printf %s \"\$$2\""`, "sh", file, name).Output()
		try.Must(t, err)
		if got := get(name); got != string(want) {
			t.Errorf("%s: %q, a shell has %q", name, got, want)
		}
	}
	if get("OS_PASSWORD") != "a$b \"c\" & d'`e" {
		t.Errorf("%q", get("OS_PASSWORD"))
	}
}

// TestOpenrcRefused: the line and the variable are told, and no value.
func TestOpenrcRefused(t *testing.T) {
	for text, want := range map[string]string{
		"A=1\nread -sr OS_PASSWORD\n":  "line 2: want export NAME=VALUE",
		"export OS_PASSWORD=$secret\n": "line 1: OS_PASSWORD: want $ in single quotes",
		"OS_PASSWORD=\"`secret`\"\n":   "want ` in single quotes", "OS_PASSWORD='secret\n": "a quotation mark ' has no end on its line",
		"OS_PASSWORD=sec;ret\n": "want ; in quotes", "OS_PASSWORD=secret word\n": "want a value with spaces in quotes",
		"OS_PASSWORD=secret\\\n": `want \ in quotes`,
		"os_password=secret\n":   "line 1: want export NAME=VALUE", "\n": "is empty", "OS_USERNAME=caf\xe9\n": "line 1: OS_USERNAME: want UTF-8",
	} {
		_, err := Openrc(openrcFile(t, text))
		var f *fail.Error
		if !errors.As(err, &f) || f.Kind != fail.Invalid || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	file := openrcFile(t, "A=1\n")
	try.Must(t, os.Chmod(file, 0o644))
	if _, err := Openrc(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v", err)
	}
}
