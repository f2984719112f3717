package cli

import (
	"bytes"
	"strings"
	"testing"
)

// TestFlagsOfAPlan: what makes no sense is told before an agent is asked.
func TestFlagsOfAPlan(t *testing.T) {
	for flags, want := range map[string]string{
		"--parallel-total 0":              "--parallel-total 0: want 1 or more",
		"--parallel-per-host -1":          "--parallel-per-host -1: want 1 or more",
		"--canary -1":                     "--canary -1: want 0 or more",
		"--failure-budget -1":             "--failure-budget -1: want 0 or more",
		"--window 22:00-22:00":            `--window "22:00-22:00": want two different times`,
		"--window 00:00-00:00":            `--window "00:00-00:00": want two different times`,
		"--window late":                   `--window "late": want a time of the day`,
		"--max-unavailable 0":             `--max-unavailable "0": want a number of hosts`,
		"--migration-network net":         `--migration-network "net": want a CIDR`,
		"--backup db":                     `--backup "db": want NAME=VALUE`,
		"--policy a=stop --policy a=cold": `--policy "a=cold": want NAME=VALUE, each name once`,
	} {
		var out bytes.Buffer
		args := append(strings.Fields("upgrade run --bundle none.hfb --yes --socket /nonexistent"), strings.Fields(flags)...)
		if code := Main(args, Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader("")}); code != 2 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: exit code %d, %s", flags, code, &out)
		}
	}
}
