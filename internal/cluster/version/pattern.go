package version

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Pattern says which versions of one scheme are meant:
//
//	E0306                      this version; a family of cas: it and all of its E numbers
//	*                          every version
//	2.0.0.*  1.*  V500R001*    these parts first; behind a dot, one more at least
//	E052X  E0513Hxx  E02*      cas: X for a digit, * for the rest; without H, hotfixes are meant too
//	3.0.0.B010-B038            a range of the last part (not in semver and debian, where - is part of a version)
//	E0306..E0705               a range, both ends in it
//	>=E0306  <E0535  >X  <=X   open ends
//	>=E0225 <E0306             all of these
//	2.0.0.*, 3.0.0.B010-B038   one of these
//
// Ranges and ends go by the order of the scheme. The zero value matches nothing.
type Pattern struct {
	scheme Scheme
	text   string
	alts   [][]term
}

// term is one condition.
type term struct {
	op     op
	lo, hi Version // ends, the same one twice where there is one only
	prefix []part  // opPrefix
	more   bool    // opPrefix: one part more at least
	mask   string  // opMask
	text   string
}

type op int

const (
	opAny op = iota
	opAt
	opFamily
	opPrefix
	opMask
	opRange
	opFrom   // >=
	opAfter  // >
	opTo     // <=
	opBefore // <
)

const (
	maxPattern = 8192 // bytes
	maxAlts    = 256
	maxTerms   = 8
)

// ParsePattern reads a pattern. Errors say which part of it is wrong.
func ParsePattern(s Scheme, text string) (Pattern, error) {
	fail := func(err error) (Pattern, error) {
		return Pattern{}, fmt.Errorf("read pattern %s: %w", quote(text), err)
	}
	if !slices.Contains(Schemes(), s) {
		return fail(unknownScheme(s))
	}
	if len(text) > maxPattern {
		return fail(fmt.Errorf("want at most %d bytes", maxPattern))
	}
	p := Pattern{scheme: s, text: text}
	for alt := range strings.SplitSeq(text, ",") {
		fields := strings.Fields(alt)
		if len(fields) == 0 || len(fields) > maxTerms {
			return fail(fmt.Errorf("want 1 to %d conditions between commas", maxTerms))
		}
		var terms []term
		for _, f := range fields {
			t, err := parseTerm(s, f)
			if err != nil {
				return fail(err)
			}
			terms = append(terms, t)
		}
		if err := satisfiable(terms); err != nil {
			return fail(err)
		}
		p.alts = append(p.alts, terms)
	}
	if len(p.alts) > maxAlts {
		return fail(fmt.Errorf("want at most %d parts between commas", maxAlts))
	}
	return p, nil
}

func parseTerm(s Scheme, text string) (term, error) {
	t := term{text: text}
	if text == "*" {
		return t, nil
	}
	for _, o := range []struct {
		sign string
		op   op
	}{{">=", opFrom}, {"<=", opTo}, {">", opAfter}, {"<", opBefore}} {
		if rest, found := strings.CutPrefix(text, o.sign); found {
			v, err := Parse(s, rest)
			t.op, t.lo, t.hi = o.op, v, v
			return t, err
		}
	}
	if lo, hi, found := strings.Cut(text, ".."); found {
		return rangeTerm(s, t, lo, hi)
	}
	if lo, last, found := strings.Cut(text, "-"); found && s != SemVer && s != Debian {
		hi, err := replaceLast(lo, last)
		if err != nil {
			return t, err
		}
		return rangeTerm(s, t, lo, hi)
	}
	if s == CAS && strings.ContainsAny(text, "Xx*") {
		return maskTerm(t)
	}
	if strings.HasSuffix(text, "*") {
		return prefixTerm(s, t)
	}
	v, err := Parse(s, text)
	t.op, t.lo, t.hi = opAt, v, v
	if v.IsFamily() {
		t.op = opFamily
	}
	return t, err
}

func rangeTerm(s Scheme, t term, lo, hi string) (term, error) {
	var err error
	t.op = opRange
	if t.lo, err = Parse(s, lo); err != nil {
		return t, err
	}
	if t.hi, err = Parse(s, hi); err == nil && compare(t.lo, t.hi) > 0 {
		err = fmt.Errorf("range %s: the end is before the beginning", quote(t.text))
	}
	return t, err
}

// replaceLast puts last in the place of the last part of v: 3.0.0.B010 and B038
// give 3.0.0.B038. The letters must be the same.
func replaceLast(v, last string) (string, error) {
	head := strings.TrimRight(v, "0123456789")
	word := head[len(strings.TrimRightFunc(head, func(r rune) bool { return r < 0x80 && isLetter(byte(r)) })):]
	got, num := splitWord(last)
	if _, ok := number(num); !ok || got != word || head == v {
		return "", fmt.Errorf("range %s: want the same letters, then digits, at both ends, such as B010-B038", quote(v+"-"+last))
	}
	return strings.TrimSuffix(head, word) + last, nil
}

// maskTerm reads E052X, E0513Hxx, E02* and E0513H*.
func maskTerm(t term) (term, error) {
	mask, open := strings.CutSuffix(strings.ReplaceAll(t.text, "x", "X"), "*")
	t.op, t.mask = opMask, mask
	full := len(mask) == 5 || len(mask) == 8
	ok := mask != "" && len(mask) <= 8 && (full || open)
	for i := range len(mask) {
		switch {
		case i == 0:
			ok = ok && mask[i] == 'E'
		case i == 5:
			ok = ok && mask[i] == 'H'
		default:
			ok = ok && (isDigit(mask[i]) || mask[i] == 'X')
		}
	}
	if !ok {
		return t, fmt.Errorf("part %s: want E and four digits, H and two digits, with X for a digit or * for the "+
			"rest, such as E052X or E0513H*", quote(t.text))
	}
	return t, nil
}

// prefixTerm reads 2.0.0.*, 1.* and V500R001*.
func prefixTerm(s Scheme, t term) (term, error) {
	head := strings.TrimSuffix(t.text, "*")
	ok := false
	t.op = opPrefix
	switch s {
	case VRB:
		t.prefix, ok = fieldsVRB(head)
	case Dotted:
		if head, ok = strings.CutSuffix(head, "."); ok {
			t.prefix, ok = partsDotted(head)
			t.more = true
		}
	case SemVer:
		nums := strings.Split(head, ".")
		ok = len(nums) <= 3 && nums[len(nums)-1] == ""
		for _, f := range nums[:len(nums)-1] {
			n, plain := plainNumber(f)
			t.prefix = append(t.prefix, part{num: n})
			ok = ok && plain
		}
	case Debian:
		return t, fmt.Errorf("part %s: versions of Debian have no patterns with *, want bounds such as >=1.2 <1.3", quote(t.text))
	}
	if !ok {
		return t, fmt.Errorf("part %s: want whole parts before *, such as 2.0.0.*, 1.2.* or V500R001*", quote(t.text))
	}
	return t, nil
}

// satisfiable refuses ends that exclude each other: a rule that can never match
// is a mistake that nobody would see.
func satisfiable(terms []term) error {
	for _, lo := range terms {
		for _, hi := range terms {
			low := lo.op == opFrom || lo.op == opAfter || lo.op == opRange || lo.op == opAt
			high := hi.op == opTo || hi.op == opBefore || hi.op == opRange || hi.op == opAt
			if !low || !high {
				continue
			}
			c := compare(lo.lo, hi.hi)
			if c > 0 || c == 0 && (lo.op == opAfter || hi.op == opBefore) {
				return fmt.Errorf("%s and %s exclude each other", quote(lo.text), quote(hi.text))
			}
		}
	}
	return nil
}

// Match reports whether v is meant. A version of another scheme is an error.
func (p Pattern) Match(v Version) (bool, error) {
	if p.scheme == "" || p.scheme != v.scheme {
		return false, fmt.Errorf("match %s version %s with %s pattern %s: want one scheme", v.scheme, quote(v.text), p.scheme, quote(p.text))
	}
	for _, terms := range p.alts {
		all := true
		for _, t := range terms {
			all = all && t.match(v)
		}
		if all {
			return true, nil
		}
	}
	return false, nil
}

func (t term) match(v Version) bool {
	switch t.op {
	case opAt:
		return compare(v, t.lo) == 0
	case opFamily:
		f, ok := v.Family()
		return ok && compare(f, t.lo) == 0
	case opPrefix:
		return hasPrefix(v.parts, t.prefix) && (!t.more || len(v.parts) > len(t.prefix))
	case opMask:
		return matchMask(t.mask, v.text)
	case opRange:
		return compare(v, t.lo) >= 0 && compare(v, t.hi) <= 0
	case opFrom:
		return compare(v, t.lo) >= 0
	case opAfter:
		return compare(v, t.lo) > 0
	case opTo:
		return compare(v, t.hi) <= 0
	case opBefore:
		return compare(v, t.hi) < 0
	}
	return true // opAny
}

func hasPrefix(parts, prefix []part) bool {
	if len(parts) < len(prefix) {
		return false
	}
	for i, p := range prefix {
		if parts[i] != p {
			return false
		}
	}
	return true
}

func matchMask(mask, text string) bool {
	if len(text) < len(mask) {
		return false
	}
	for i := range len(mask) {
		if mask[i] != text[i] && (mask[i] != 'X' || !isDigit(text[i])) {
			return false
		}
	}
	return true
}

// AnyPattern is for patterns whose scheme is not known yet: it returns an error
// for a text that is a pattern of no scheme.
func AnyPattern(text string) error {
	for _, s := range Schemes() {
		if _, err := ParsePattern(s, text); err == nil {
			return nil
		}
	}
	return errors.New("want a pattern of versions that one of the schemes knows, such as 1.2.*, >=1.2 <1.4 or E0306..E0705")
}
