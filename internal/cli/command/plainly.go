package command

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var (
	// wrongNumber is how cobra says that there are too many arguments, or too few.
	wrongNumber = regexp.MustCompile(`^(?:accepts (?:at most |between )?\d+(?: and \d+)? arg\(s\)|requires at least \d+ arg\(s\)), (?:only )?received (\d+)$`)
	// noValue is how pflag says that a flag is the last word.
	noValue = regexp.MustCompile(`^flag needs an argument: (?:'(\w)' in -\w+|(--[\w-]+))$`)
	// wrongValue is how pflag says what Go's parsers say of a value.
	wrongValue = regexp.MustCompile(`(?s)^invalid argument ("(?:[^"\\]|\\.)*") for "(?:-\w, )?(--[^"]+)" flag: (.*)$`)
	noArgument = regexp.MustCompile(`^unknown command (".*") for ".*"$`)
	// similar is how cobra names commands that are spelled nearly so.
	similar = regexp.MustCompile(`^(unknown command ".*" for ".*")\n\nDid you mean this\?\n((?:\t[^\n]*\n)+)`)
)

// Plainly says in words of this program what a library says of flags and arguments.
func Plainly(c *cobra.Command, err error) error {
	text := err.Error()
	path := c.CommandPath() + ": "
	if !c.HasParent() {
		path = "" // it is what the message begins with
	}
	if m := noValue.FindStringSubmatch(text); m != nil {
		f := c.Flags().Lookup(strings.TrimPrefix(m[2], "--"))
		if m[1] != "" {
			f = c.Flags().ShorthandLookup(m[1])
		}
		if f == nil {
			return err
		}
		what, _ := pflag.UnquoteUsage(f)
		return fmt.Errorf("--%s: a value is missing; want --%s %s", f.Name, f.Name, strings.ToUpper(what))
	}
	if m := wrongNumber.FindStringSubmatch(text); m != nil {
		_, want, _ := strings.Cut(c.Use, " ")
		if strings.HasPrefix(want, ZshaAddress) {
			want = "the IP address or the name of a host"
		}
		if m[1] == "0" {
			return fmt.Errorf("%swant %s, and no argument is given", path, want)
		}
		return fmt.Errorf("%swant %s, not %s", path, want, arguments(m[1]))
	}
	if m := noArgument.FindStringSubmatch(text); m != nil && !c.HasSubCommands() {
		return fmt.Errorf("%sargument %s: want none", path, m[1])
	} else if m != nil && c.HasParent() { // it does something by itself, too
		_, alone, has := strings.Cut(c.Use, " ")
		if !has {
			return choices{fmt.Errorf("%sunknown command %s; want %s, or no argument", path, m[1], subcommands(c))}
		}
		return choices{fmt.Errorf("%sunknown command %s; want %s or %s", path, m[1], subcommands(c), alone)}
	}
	if m := similar.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s; like it are: %s", m[1], strings.Join(strings.Fields(m[2]), ", "))
	}
	m := wrongValue.FindStringSubmatch(text)
	if m == nil {
		return err
	}
	want := ""
	switch why := m[3]; {
	case strings.Contains(why, "value out of range"):
		want = "a smaller number"
	case strings.Contains(why, "strconv.ParseInt"), strings.Contains(why, "strconv.Atoi"):
		want = "a whole number"
	case strings.Contains(why, "strconv.ParseUint"):
		want = "a whole number that is not negative"
	case strings.Contains(why, "strconv.ParseFloat"):
		want = "a number"
	case strings.Contains(why, "strconv.ParseBool"):
		want = "true or false"
	case strings.Contains(why, "time: "):
		want = "a duration such as 90s or 5m"
	default:
		return err
	}
	return fmt.Errorf("%s %s: want %s", m[2], m[1], want)
}

// choices is an error that lists what may be given: it is folded wherever it goes.
type choices struct{ error }

// Unwrap returns the error itself.
func (c choices) Unwrap() error { return c.error }

// subcommands lists the commands below one.
func subcommands(c *cobra.Command) string {
	var names []string
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			names = append(names, sub.Name())
		}
	}
	slices.Sort(names)
	return strings.Join(names, " or ")
}

// arguments says how many arguments there are.
func arguments(n string) string {
	switch n {
	case "1":
		return "one argument"
	}
	return n + " arguments"
}

// ZshaAddress stands for an address in the source tool's texts.
const ZshaAddress = "xxx.xxx.xxx.xxx"
