package config

import (
	"slices"
	"strings"

	"holdfast/internal/cluster"
)

// Replacement is one member that gives way to another one: to one of another name, at
// another address, or both.
type Replacement struct{ Left, Joined NodeAddr }

// Replaced returns the member in which b differs from a. ok: there is one, and all
// others are the same, in whatever order.
func Replaced(a, b Cluster) (r Replacement, ok bool) {
	left, joined := lacks(a, b), lacks(b, a)
	if len(left) != 1 || len(joined) != 1 || len(a.Node) != len(b.Node) {
		return r, false
	}
	return Replacement{left[0], joined[0]}, true
}

// lacks are the members of a that b has not.
func lacks(a, b Cluster) (out []NodeAddr) {
	for _, n := range a.Nodes() {
		if !slices.Contains(b.Nodes(), n) {
			out = append(out, n)
		}
	}
	return out
}

// Member returns the address of a host in Node; there: it is one of the members.
func (cl Cluster) Member(host cluster.HostID) (addr string, there bool) {
	for _, n := range cl.Nodes() {
		if n.Host == host {
			return n.IP, true
		}
	}
	return "", false
}

// about reports whether a path is about one of the two members: the list of members, or
// what stands by the name of one of them.
func (r Replacement) about(path string) bool {
	for _, h := range []cluster.HostID{r.Left.Host, r.Joined.Host} {
		if p := field("Fencing", string(h)); path == p || strings.HasPrefix(path, p+".") {
			return true
		}
	}
	return path == "Node"
}
