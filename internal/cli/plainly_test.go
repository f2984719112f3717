package cli

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cli/output"
)

// TestNothingOfALibraryIsShown: wrong flags and arguments of every kind are told in words of this program.
func TestNothingOfALibraryIsShown(t *testing.T) {
	for want, args := range map[string][]string{
		"one: want HOST, and no argument is given":              {"one"},
		"one: want HOST, not 2 arguments":                       {"one", "a", "b"},
		"some: want FILE..., and no argument is given":          {"some"},
		"upto: want [HOST], not 2 arguments":                    {"upto", "a", "b"},
		"two: want FROM TO [VIA], not one argument":             {"two", "a"},
		`none: argument "x": want none`:                         {"none", "x"},
		`--int "four": want a whole number`:                     {"none", "--int", "four"},
		`--int "99999999999999999999": want a smaller number`:   {"none", "-i", "99999999999999999999"},
		`--uint "-1": want a whole number that is not negative`: {"none", "--uint=-1"},
		`--float "x": want a number`:                            {"none", "--float", "x"},
		`--bool "perhaps": want true or false`:                  {"none", "--bool=perhaps"},
		`--time "5": want a duration such as 90s or 5m`:         {"none", "--time", "5"},
		`--time "a \"b\"": want a duration such as 90s or 5m`:   {"none", "--time", `a "b"`},
		"--int: a value is missing; want --int INT":             {"none", "--int"},
		"--time: a value is missing; want --time DURATION":      {"none", "--time"},
		"unknown flag: --bogus":                                 {"none", "--bogus"},
	} {
		root := &cobra.Command{Use: "root", SilenceErrors: true, SilenceUsage: true}
		run := func(*cobra.Command, []string) error { return nil }
		none := &cobra.Command{Use: "none", Args: cobra.NoArgs, RunE: run}
		none.Flags().IntP("int", "i", 0, "")
		none.Flags().Uint("uint", 0, "")
		none.Flags().Float64("float", 0, "")
		none.Flags().Bool("bool", false, "")
		none.Flags().Duration("time", 0, "")
		root.AddCommand(none,
			&cobra.Command{Use: "one HOST", Args: cobra.ExactArgs(1), RunE: run},
			&cobra.Command{Use: "some FILE...", Args: cobra.MinimumNArgs(1), RunE: run},
			&cobra.Command{Use: "upto [HOST]", Args: cobra.MaximumNArgs(1), RunE: run},
			&cobra.Command{Use: "two FROM TO [VIA]", Args: cobra.RangeArgs(2, 3), RunE: run})
		command.MarkUsage(root)
		root.SetArgs(args)
		if args[len(args)-1] == "--int" { // the short name says the same
			root.SetArgs([]string{"none", "-i"})
			if err := root.Execute(); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("-i: %v, want %s", err, want)
			}
			root.SetArgs(args)
		}
		if err := root.Execute(); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
}

// TestCommandsSayWhatIsWanted: a command that has others says which, also where it does something by itself; in lines that fit.
func TestCommandsSayWhatIsWanted(t *testing.T) {
	n := 0
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		for _, sub := range c.Commands() {
			walk(sub, append(slices.Clone(path), sub.Name()))
		}
		if len(path) == 0 || !c.HasSubCommands() {
			return
		}
		n++
		s := commandLine(t, "", append(slices.Clone(path), "bogus")...)
		if s.code != 2 || !strings.Contains(unwrapped(s),
			`unknown command "bogus"; want `) || len(clitest.TooWide(s.err, output.Width)) > 0 {
			t.Errorf("%v: exit %d, %s", path, s.code, s.err)
		}
	}
	walk(New(command.Env{Stdout: io.Discard, Stderr: io.Discard}), nil)
	if n < 8 {
		t.Errorf("only %d commands have others", n)
	}
	if s := commandLine(t, "", "probe", "bogus"); !strings.Contains(unwrapped(s), "want report or --targets FILE --for TIME") {
		t.Error(s.err)
	}
	if s := commandLine(t, "", "certificates", "bogus"); !strings.Contains(unwrapped(s), "want renew, or no argument") {
		t.Error(s.err)
	}
}
