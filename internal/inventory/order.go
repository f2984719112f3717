package inventory

import (
	"cmp"
	"strconv"
	"strings"
)

// Compare orders names as people do: host2 before host10.
func Compare(a, b string) int {
	for a != "" && b != "" {
		na, ra := number(a)
		nb, rb := number(b)
		switch {
		case na >= 0 && nb >= 0 && na != nb:
			return cmp.Compare(na, nb)
		case na >= 0 && nb >= 0:
			a, b = ra, rb
		case a[0] != b[0]:
			return cmp.Compare(a[0], b[0])
		default:
			a, b = a[1:], b[1:]
		}
	}
	return cmp.Compare(a, b)
}

// number splits digits off the front; n is -1 when there are none, or too many.
func number(s string) (n int, rest string) {
	rest = strings.TrimLeft(s, "0123456789")
	n, err := strconv.Atoi(s[:len(s)-len(rest)])
	if err != nil {
		return -1, s
	}
	return n, rest
}

// CompareBools orders two answers: yes comes after no.
func CompareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
