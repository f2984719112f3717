package install

import (
	"cmp"
	"slices"
)

// Results of a check.
const (
	Pass = "pass"
	Warn = "warn" // goes on
	Fail = "fail" // nothing is changed
)

// Finding is what one check says of one host. Node is "" for what concerns all.
type Finding struct {
	Node    string `json:"node"`
	Check   string `json:"check"`
	Result  string `json:"result"`
	Finding string `json:"finding"`
	Remedy  string `json:"remedy"`
}

// Report is what the checks found. OK: none failed.
type Report struct {
	OK       bool      `json:"ok"`
	Findings []Finding `json:"findings"`
}

// Failing is how many of the checks have failed.
func (r Report) Failing() (n int) {
	for _, f := range r.Findings {
		if f.Result == Fail {
			n++
		}
	}
	return n
}

func report(f []Finding) Report {
	if f == nil {
		f = []Finding{} // a list in JSON, too
	}
	rank := map[string]int{Fail: 0, Warn: 1, Pass: 2}
	slices.SortStableFunc(f, func(x, y Finding) int {
		return cmp.Or(cmp.Compare(rank[x.Result], rank[y.Result]), cmp.Compare(x.Node, y.Node))
	})
	return Report{OK: !slices.ContainsFunc(f, func(f Finding) bool { return f.Result == Fail }), Findings: f}
}
