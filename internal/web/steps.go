package web

import (
	"context"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/job"
)

// stepTitle is the head of a column of steps.
func stepTitle(v *view, word string) string {
	switch word {
	case "check", "check-before":
		return v.T("Check")
	case "preCheck":
		return v.T("Pre-check")
	case "stage":
		return v.T("Copy")
	case "tidy", "cleanup":
		return v.T("Tidy")
	case "checkpoint":
		return v.T("Checkpoint")
	case "stop":
		return v.T("Stop")
	case "backup":
		return v.T("Backup")
	case "install":
		return v.T("Install")
	case "start":
		return v.T("Start")
	case "postCheck":
		return v.T("Post-check")
	case "check-after":
		return v.T("Check after")
	case "post-check":
		return v.T("Final check")
	case "rollback":
		return v.T("Roll back")
	case "restore":
		return v.T("Restore")
	case "commit":
		return v.T("Commit")
	case "drain":
		return v.T("Empty")
	case "undrain":
		return v.T("In service")
	case "back":
		return v.T("Guests back")
	case "storage-detach":
		return v.T("Storage off")
	case "storage-attach":
		return v.T("Storage on")
	case "reboot":
		return v.T("Reboot")
	case "verify":
		return v.T("Verify")
	case "vm-stop":
		return v.T("Guests off")
	case "vm-start":
		return v.T("Guests on")
	case "pair-switch":
		return v.T("Switch over")
	case "pair-start":
		return v.T("Pair on")
	case "pair-stop":
		return v.T("Pair off")
	case "pin":
		return v.T("Pin")
	case "unpin":
		return v.T("Unpin")
	case "losses-before", "losses":
		return v.T("Losses")
	case "ha-off":
		return v.T("HA off")
	case "ha-on":
		return v.T("HA on")
	case "applications-off", "apps-off":
		return v.T("Applications off")
	case "applications-on", "apps-on":
		return v.T("Applications on")
	}
	return told.Clean(word)
}

// stepsShown bounds the steps of a job on a page, those that are stuck or run first.
const stepsShown = 500

// jobPage is a job with its steps, or with those of a host.
func jobPage(ctx context.Context, v *view) (templ.Component, error) {
	j, err := v.api.Job(ctx, v.arg("id"))
	if err != nil {
		return nil, err
	}
	v.Title = v.T(told.Clean(j.Title))
	host := v.query("host")
	var first, rest []job.StepView
	for _, s := range j.Steps {
		switch {
		case host != "" && string(s.Host) != host:
		case s.State == "running" || s.State == "failed" || s.State == "unknown":
			first = append(first, s)
		default:
			rest = append(rest, s)
		}
	}
	if all := len(first) + len(rest); all <= stepsShown { // in the order of the plan
		first, rest = nil, nil
		for _, s := range j.Steps {
			if host == "" || string(s.Host) == host {
				rest = append(rest, s)
			}
		}
	}
	steps := append(first, rest...)
	return jobSteps(v, j, host, steps[:min(len(steps), stepsShown)], len(steps)-min(len(steps), stepsShown)), nil
}
