package survey

import (
	"holdfast/internal/cluster"
	"holdfast/internal/upgrade/check"
)

// Report judges what Look has found. local is the host that makes the report. The
// caller adds what else it knows, and when it began.
func Report(in check.Input, local cluster.HostID) check.Report {
	r := check.Report{When: in.When, From: in.From, Began: in.Now, Ended: in.Now, Hosts: check.Rows(in, local), Findings: check.Run(in)}
	if in.Inventory != nil {
		r.Cluster = in.Inventory.Cluster
		if r.From == "" {
			r.From = in.Inventory.Version
		}
	}
	if in.Manifest != nil {
		r.To, r.Bundle = in.Manifest.Version, in.Manifest.Name+" "+in.Manifest.Version
	}
	if in.Back {
		r.From, r.To = r.To, r.From
	}
	return r
}
