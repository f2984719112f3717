package web

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// underWay is an upgrade of four hosts: one is done, one is worked on, two wait.
func underWay() *request.Standing {
	now := time.Now()
	began := now.Add(-11 * time.Minute)
	u := &request.Standing{ClusterState: upgrade.Rollup, Version: "E0705", To: "E0710", Purpose: upgrade.ForUpgrade, Mode: "rolling", Run: "upgrade-7",
		Stage: "hosts", Bundle: &request.BundleInfo{SHA256: "ab", Name: "cas", Version: "E0710", KeyID: "0123456789ABCDEF"},
		Job: &job.View{ID: "upgrade-7", Kind: "upgrade", Title: "upgrade to cas E0710", User: "anna", State: "active", Began: began, Changed: now}}
	hosts := []cluster.HostID{"cvk-1", "cvk-2", "cvm-2", "cvm-1"}
	for i, h := range hosts {
		words := []string{"check", "stage", "backup/cas", "drain", "install/cas", "reboot", "verify", "undrain"}
		for k, w := range words {
			s := job.StepView{ID: string(h) + "/" + w, Host: h, Kind: "action", State: "pending"}
			if k < 2 || i == 0 || i == 1 && k < 4 {
				s.State, s.Attempt, s.Percent = "done", 1, 100
				s.Began = began.Add(time.Duration(i*60+k*20) * time.Second)
				s.Ended = s.Began.Add(time.Duration(4+k*17) * time.Second)
			}
			if i == 1 && k == 4 {
				s.State, s.Attempt, s.Percent, s.Note = "running", 1, 62, "package 41 of 66"
				s.Began, s.Said = now.Add(-95*time.Second), now.Add(-3*time.Second)
				s.Tail = "[INFO] Upgrading package 41 of 66\n[ -OK- ] Stop all services on CVK... Done.\n[INFO] Upgrading kernel ...\n"
			}
			u.Job.Steps = append(u.Job.Steps, s)
			u.Steps.Total++
			if s.State == "done" {
				u.Steps.Over++
			}
		}
		u.Hosts = append(u.Hosts, request.HostStanding{Name: h, Wave: i + 1})
	}
	u.Hosts[0].State, u.Hosts[1].State, u.Hosts[1].Now = upgrade.HostRollupDone, upgrade.HostRollup, "package 41 of 66"
	u.Hosts[0].Approved, u.Hosts[1].Approved = "anna", "anna"
	u.Job.WaitCodes = []reason.Reason{reason.NotApproved.With("cvm-2").At("cvm-2/drain")}
	u.Job.Wait(u.Job.WaitCodes)
	return offering(u)
}

// offering names the commands that may be given.
func offering(u *request.Standing) *request.Standing {
	u.Next = request.Next(u, func(request.Verb, string) bool { return true })
	return u
}

// stuck is the same with a step that has failed.
func stuck() *request.Standing {
	u := underWay()
	i := slices.IndexFunc(u.Job.Steps, func(s job.StepView) bool { return s.State == "running" })
	s := &u.Job.Steps[i]
	s.State, s.Why, s.Exit, s.Note, s.Ended = "failed", "exit code 7", 7, "", s.Began.Add(40*time.Second)
	s.Tail += "no space left on device\n"
	u.Job.State, u.Job.Waits, u.Job.WaitCodes = "paused", nil, nil
	u.Job.WhyCodes = []reason.Reason{reason.StepFailed.With(s.ID, s.Why)}
	u.Job.Why = reason.Text(u.Job.WhyCodes...)
	u.Steps.Failed = 1
	u.Found = []request.Found{{Step: s.ID, Host: "cvk-2", Fault: "no-space", Level: "fail", Text: "no space left on device", Remedy: "free 10 GiB below /var"}}
	u.Hosts[1].Now = "exit code 7"
	return offering(u)
}

// prepared is an upgrade that is done, and not committed.
func prepared() *request.Standing {
	u := underWay()
	for i := range u.Job.Steps {
		s := &u.Job.Steps[i]
		if s.State != "done" {
			s.State, s.Percent, s.Note, s.Tail, s.Began = "done", 100, "", "", u.Job.Began.Add(time.Minute)
			s.Ended = s.Began.Add(50 * time.Second)
		}
	}
	for i := range u.Hosts {
		u.Hosts[i].State, u.Hosts[i].Now = upgrade.HostRollupDone, ""
	}
	u.ClusterState, u.Steps.Over, u.Stage = upgrade.Prepared, u.Steps.Total, ""
	u.Job.State, u.Job.Result, u.Job.Waits, u.Job.WaitCodes = "ended", "done", nil, nil
	return offering(u)
}
