package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestNothingOfALibraryIsShown: wrong flags and arguments of every kind are told in words of this program.
func TestNothingOfALibraryIsShown(t *testing.T) {
	for want, args := range map[string][]string{
		"one: want HOST, not nothing":                           {"one"},
		"one: want HOST, not 2 arguments":                       {"one", "a", "b"},
		"some: want FILE..., not nothing":                       {"some"},
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
		markUsage(root)
		root.SetArgs(args)
		if err := root.Execute(); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
}
