package lab

import (
	"os/exec"
	"strings"
	"testing"
)

// TestFaultsOfOptions name the flag, the value and what is allowed.
func TestFaultsOfOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"--hosts 10: want 1 to 9":                                           {Hosts: 10},
		"--guests 65: want 0 to 64":                                         {Guests: 65},
		"--subnet -1: want 1 to 250, or 0 for the first free one":           {Subnet: -1},
		"--members 2: want --agents with it":                                {Members: 2},
		"--members 2: want an odd number, at least 3":                       {Members: 2, Agents: true},
		"--members 4: want an odd number, at least 3":                       {Hosts: 4, Agents: true},
		"--members 5: want an odd number from 3 to the number of hosts, 3":  {Members: 5, Agents: true},
		"--members -1: want an odd number from 3 to the number of hosts, 3": {Members: -1},
		`--disk "tape": want "file", "nbd" or, with --agents, "own"`:        {Disk: "tape"},
		`--work "none": want "guest", "address" or, with --agents, "pair"`:  {Work: "none"},
		`--profile "slow": want "fast" or none`:                             {Profile: "slow"},
		"--bare: not with --agents":                                         {Agents: true, Exe: "holdfast", Bare: "x"},
		"--program: want a program, which agents are":                       {Agents: true},
	} {
		if _, err := o.complete(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
}

// TestExecIsAsThoughTheCommandRanHere: it has the caller's environment but for what is the host's, and its end is told
// as shells tell it.
func TestExecIsAsThoughTheCommandRanHere(t *testing.T) {
	host := hostEnv("/lab/bin")
	caller := []string{"PATH=/home/ann/bin", "HOME=/home/ann", "PWD=/home/ann", "TMPDIR=/home/ann/tmp", "ANSWER=42", "TERM=xterm"}
	last := func(env []string, name string) (value string) {
		for _, v := range env {
			if n, x, _ := strings.Cut(v, "="); n == name {
				value = x
			}
		}
		return value
	}
	got := inheriting(host, caller)
	for name, want := range map[string]string{"PATH": last(host, "PATH"), "HOME": "/root", "PWD": "", "TMPDIR": "",
		"ANSWER": "42", "TERM": "xterm", "LC_ALL": "C"} {
		if last(got, name) != want {
			t.Errorf("%s is %q, want %q", name, last(got, name), want)
		}
	}
	if got := inheriting(host, append(caller, "LANG=zh_CN.UTF-8")); last(got, "LC_ALL") != "" || last(got, "LANG") != "zh_CN.UTF-8" {
		t.Errorf("the caller's language is lost: %q", got)
	}
	for script, want := range map[string]int{"exit 0": 0, "exit 4": 4, "kill -TERM $$": 143, "kill -KILL $$": 137} {
		code, ended := exitCode(exec.CommandContext(t.Context(), "/bin/sh", "-c", script).Run())
		if code != want || ended != (want != 0) {
			t.Errorf("%s: exit code %d, %v", script, code, ended)
		}
	}
}
