package manifest

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster/version"
)

// FromAppctl is the rule of packages of the appctl layout (Manifest.FromRule).
const FromAppctl = "appctl"

// Origin is what a bundle says of a version that is installed.
type Origin struct {
	Source  Source // the row of UpgradeFrom that counts; zero when there is none
	Listed  bool   // the bundle upgrades from that version, in some mode
	Allowed bool   // in the mode that was asked about
}

// From looks up a version that is installed. Reboot counts as Rolling. An error means
// that the version, or a row that had to be read, follows no scheme of versions.
func (m *Manifest) From(s version.Scheme, installed string, mode Mode) (Origin, error) {
	mode = mode.Listed()
	if m.FromRule == FromAppctl {
		return m.fromAppctl(installed, mode)
	}
	for _, row := range m.UpgradeFrom {
		switch hit, err := Match(s, row.Version, installed); {
		case err != nil:
			return Origin{}, err
		case hit:
			return Origin{row, true, slices.Contains(row.Modes, mode)}, nil
		}
	}
	return Origin{}, nil
}

// Match reports whether a version is meant by a pattern of the bundle. A scheme that is
// not known (""), and a version or a pattern that can not be read, are errors.
func Match(s version.Scheme, pattern, v string) (bool, error) {
	if s == "" {
		return false, fmt.Errorf("the version %q and the patterns of the bundle follow no known version scheme", v)
	}
	p, err := version.ParsePattern(s, pattern)
	if err != nil {
		return false, fmt.Errorf("the bundle's pattern %q: %w", pattern, err)
	}
	x, err := version.Parse(s, v)
	if err != nil {
		return false, fmt.Errorf("the version: %w", err)
	}
	return p.Match(x)
}

// MayMix reports whether a version may run beside that of the bundle: one of Mixed means
// it. A pattern that can not be read allows nothing.
func (m *Manifest) MayMix(s version.Scheme, v string) bool {
	return slices.ContainsFunc(m.Mixed, func(pattern string) bool {
		hit, err := Match(s, pattern, v)
		return err == nil && hit
	})
}

func (m *Manifest) fromAppctl(installed string, mode Mode) (Origin, error) {
	for _, x := range []Mode{mode, Offline, Rolling} {
		row, found, err := appctlRow(m.UpgradeFrom, installed, x)
		if err != nil || found {
			return Origin{row, found, x == mode}, err
		}
	}
	return Origin{}, nil
}

// appctlRow finds the row that counts as upgrade_version_check.py of the appctl layout
// does, with what may surprise in it: only rows of the mode are looked at; the last part
// of a version is one word, and what stands before it must be equal as text; a range is
// for parts B and SP only, and any other part ends the search. An error means that the
// package's own check would end with one, and allow nothing.
func appctlRow(rows []Source, installed string, mode Mode) (Source, bool, error) {
	main, last := versionParts(installed)
	for _, row := range rows {
		rowMain, rowLast := versionParts(row.Version)
		if !slices.Contains(row.Modes, mode) || !slices.Equal(main, rowMain) {
			continue
		}
		if rowLast == "*" || rowLast == last {
			return row, true, nil
		}
		ends := strings.Split(rowLast, "-")
		switch {
		case len(ends) == 1:
			continue
		case len(ends) > 2:
			return Source{}, false, fmt.Errorf("the row %q of the white list has more than one '-'", row.Version)
		}
		word := strings.Map(func(r rune) rune {
			if '0' <= r && r <= '9' {
				return -1
			}
			return r
		}, last)
		if word != "B" && word != "SP" {
			return Source{}, false, nil
		}
		lo, hi, n := strings.ReplaceAll(ends[0], word, ""), strings.ReplaceAll(ends[1], word, ""), strings.ReplaceAll(last, word, "")
		switch {
		case !allDigits(lo) || !allDigits(hi):
			continue
		case n == "":
			return Source{}, false, fmt.Errorf("the version %q has no number behind %s", installed, word)
		case compareDigits(lo, n) <= 0 && compareDigits(n, hi) <= 0:
			return row, true, nil
		}
	}
	return Source{}, false, nil
}

// SetSource adds a row to a white list of the appctl layout. A version that is there
// keeps its place, and has the later row's word.
func SetSource(rows []Source, row Source) []Source {
	if i := slices.IndexFunc(rows, func(x Source) bool { return x.Version == row.Version }); i >= 0 {
		rows[i] = row
		return rows
	}
	return append(rows, row)
}

// versionParts splits a version at its last dot.
func versionParts(v string) (main []string, last string) {
	parts := strings.Split(v, ".")
	return parts[:len(parts)-1], parts[len(parts)-1]
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// compareDigits compares two numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
