package pair

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
	"holdfast/internal/install/setup"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
)

// question is one line of the form of a set-up. Its answer is the value of a flag.
type question struct {
	flag    string
	meaning string
	example string
	given   string // the answer that an empty line gives; "": none
	check   func(text string) error
}

// needed are the flags without which a set-up can not begin.
var needed = []string{"vip", "peer", "arbiter", "hosts", "vms"}

// form asks for what is missing, on a terminal, and shows what was answered. Anywhere else it does
// nothing. A wrong answer is refused as the flag would be, and asked for again. begun is the file
// of a set-up that was begun; its values are what an empty line means.
func form(a *command.App, cmd *cobra.Command, s *pairSetup, begun string) error {
	in, ok := a.Env.Stdin.(*os.File)
	if !ok || !output.IsTerminal(in) || !slices.ContainsFunc(needed,
		func(name string) bool { return !cmd.Flags().Changed(name) }) {
		return nil
	}
	note, err := setup.ReadNote(begun)
	if err != nil {
		return err
	}
	if note == nil {
		note = &setup.Note{}
	}
	if !cmd.Flags().Changed("device") {
		s.Device = note.Device
	}
	if !cmd.Flags().Changed("second-path") {
		s.Second = note.Second
	}
	if err := output.Text(a.Env.Stderr,
		"What is missing is asked for. [In brackets] is what an empty line means.\n"); err != nil {
		return err
	}
	for _, q := range s.questions(note) {
		if err := askFor(a, cmd, q); err != nil {
			return err
		}
	}
	// The default follows from the numbers.
	least := strconv.Itoa(pair.SizeFor(s.Hosts, s.VMs).Database)
	if s.Hosts == note.Hosts && s.VMs == note.VMs && note.Database > 0 {
		least = strconv.Itoa(note.Database)
	}
	if err := askFor(a, cmd, question{"db-size", "Size of the database's partition, in GB", "20", least,
		func(string) error { return setup.DatabaseSize(s.Database) }}); err != nil {
		return err
	}
	text := "Answered:\n"
	for _, name := range append(slices.Clone(needed), "db-size") {
		f := cmd.Flags().Lookup(name)
		text += fmt.Sprintf("  --%-8s %s\n", name, output.Clean(strings.Trim(f.Value.String(), "[]")))
	}
	if !cmd.Flags().Changed("ask-password") && s.ssh.File == "" && s.ssh.Opt.Identity == "" {
		s.ssh.Ask = true
		text += "With an empty password the keys in ~/.ssh are used.\n"
	}
	return output.Text(a.Env.Stderr, text)
}

// questions are those of a set-up, with the answers of one that was begun.
func (s *pairSetup) questions(note *setup.Note) []question {
	number := func(n int) string {
		if note.Hosts == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	return []question{
		{"vip", "Address at which the services are reached, with its subnet's prefix length", "172.16.60.55/16",
			note.VIP, func(text string) error {
				_, _, err := setup.VirtualAddress(text)
				return err
			}},
		{"peer", "Address of the other node, whose data are replaced", "172.16.60.52", note.Peer, func(text string) error {
			_, err := setup.HostAddress("--peer", text)
			return err
		}},
		{"arbiter", "Who decides when the nodes do not see each other: a third host, fence, a disk, or " +
			"addresses to ping", "quorum:172.16.60.53", strings.Join(note.Arbiters, " "), func(text string) error {
			x, err := setup.Arbiter(text)
			if err == nil {
				err = setup.OneArbiter(x)
			}
			return err
		}},
		{"hosts", "Number of hosts that the platform will have", "4", number(note.Hosts),
			func(string) error { return setup.Counts(s.Hosts, 0) }},
		{"vms", "Number of VMs that the platform will have", "20", number(note.VMs),
			func(string) error { return setup.Counts(1, s.VMs) }},
	}
}

// askFor asks until the answer is a value of the flag, unless it was given.
func askFor(a *command.App, cmd *cobra.Command, q question) error {
	f := cmd.Flags()
	if f.Changed(q.flag) {
		return nil
	}
	given := ""
	if q.given != "" {
		given = " [" + output.Clean(q.given) + "]"
	}
	_, list := f.Lookup(q.flag).Value.(interface{ GetSlice() []string })
	for {
		text, ended, err := a.AskLine(cmd.Context(),
			fmt.Sprintf("%s\n  --%s, for example %s%s: ", q.meaning, q.flag, q.example, given))
		switch {
		case cmd.Context().Err() != nil:
			return fail.Errorf(fail.Canceled, "pair setup: interrupted; nothing was changed")
		case err != nil:
			return err
		case ended:
			return fail.Errorf(fail.Canceled, "pair setup: the questions were not answered; nothing was changed")
		case text == "":
			text = q.given
		}
		// A list grows with each value, so it gets the right one only. A number is read by its flag.
		if list {
			err = q.check(text)
		}
		if err == nil {
			err = f.Set(q.flag, text)
		}
		if err == nil && !list {
			err = q.check(text)
		}
		if err == nil {
			return nil
		}
		var e *fail.Error
		if !errors.As(err, &e) {
			err = command.Plainly(cmd, err)
			e = fail.Errorf(fail.Invalid, "%w", err)
		}
		command.Report(a.Env.Stderr, command.Program, err, e)
	}
}
