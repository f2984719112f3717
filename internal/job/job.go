package job

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
)

// Kind names what a job does. At most one job of a kind is there at a time.
type Kind string

// Upgrade is the kind of a rolling, offline or reboot upgrade.
const Upgrade Kind = "upgrade"

// State is how a job stands.
type State string

// States of a job.
const (
	Active   State = "active"
	Paused   State = "paused"   // nothing is begun, what runs goes on
	Aborting State = "aborting" // nothing is begun but what restores order, what runs is cancelled
	Ended    State = "ended"
)

// Job is the record of one job.
type Job struct {
	ID      string          `json:"id"` // unique among all jobs
	Kind    Kind            `json:"kind"`
	Title   string          `json:"title"` // for people
	User    string          `json:"user"`  // who asked for it
	State   State           `json:"state"`
	Result  string          `json:"result,omitempty"` // Ended: done, failed, aborted
	Why     []reason.Reason `json:"why,omitempty"`    // it is paused, or ended without success
	Plan    string          `json:"plan"`             // SHA-256 of the plan, hex: the plan never changes
	Data    json.RawMessage `json:"data,omitempty"`   // the Planner's own state
	Began   time.Time       `json:"began"`
	Changed time.Time       `json:"changed"`
	// Generation is that of the agent that submitted it and made the plan.
	Generation int   `json:"generation,omitempty"`
	Mod        int64 `json:"-"` // revision
}

// Because sets why the job is as it is; no reasons: nothing is to be said.
func (j *Job) Because(reasons ...reason.Reason) { j.Why = reasons }

// Step is one piece of work. It is part of the plan and does not change.
type Step struct {
	ID         string          `json:"id"`             // unique in the job, made of words like host/module/phase
	Host       cluster.HostID  `json:"host,omitempty"` // whose agent does it; "": the coordinator's
	Kind       string          `json:"kind"`           // which Executor does it
	Args       json.RawMessage `json:"args,omitempty"` // for the Executor
	Timeout    time.Duration   `json:"timeout"`        // of one attempt, ns
	Idempotent bool            `json:"idempotent,omitempty"`
}

// stepID is the form of a step's id: it becomes a key and a file name.
var stepID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$`)

// maxStepID bounds a step's id, bytes: it becomes a file name.
const maxStepID = 200

// MaxArgs bounds Step.Args, bytes: a few of them fit into one transaction.
const MaxArgs = 64 << 10

// CheckSteps looks for steps that can not be carried out.
func CheckSteps(steps []Step) error {
	seen := make(map[string]bool, len(steps))
	for _, s := range steps {
		switch {
		case !stepID.MatchString(s.ID) || len(s.ID) > maxStepID:
			return fmt.Errorf("step %q: want words of letters, digits, '.', '_' and '-' with '/' between, at most %d bytes", s.ID, maxStepID)
		case seen[s.ID]:
			return fmt.Errorf("step %q is there twice", s.ID)
		case s.Timeout <= 0:
			return fmt.Errorf("step %q has no timeout", s.ID)
		case s.Kind == "":
			return fmt.Errorf("step %q has no kind", s.ID)
		}
		seen[s.ID] = true
	}
	return nil
}

// StepState is how far a step has come.
type StepState string

// States of a step. One without a record is Pending.
const (
	Pending StepState = ""
	Granted StepState = "granted" // the host may begin it
	Running StepState = "running" // claimed by a process of the host's agent
	Done    StepState = "done"
	Failed  StepState = "failed"
	Unknown StepState = "unknown" // begun, and nobody can tell whether it was done
	Skipped StepState = "skipped" // by an operator
)

// Over reports that a step needs nothing more for what depends on it.
func (s StepState) Over() bool { return s == Done || s == Skipped }

// Stuck reports that a step needs an operator.
func (s StepState) Stuck() bool { return s == Failed || s == Unknown }

// Record is the journal's entry of a step.
type Record struct {
	Step     string         `json:"step"`
	State    StepState      `json:"state"`
	Attempt  int            `json:"attempt"`            // counts from 1
	Term     int64          `json:"term"`               // of the coordinator that granted this attempt
	Undo     bool           `json:"undo,omitempty"`     // granted while the job was aborting: it restores order and is not cancelled
	Work     *Step          `json:"work,omitempty"`     // what to do, while it is granted or running: hosts need not read the plan
	Host     cluster.HostID `json:"host,omitempty"`     // whose agent has claimed it
	Instance string         `json:"instance,omitempty"` // agent process that claimed it
	Boot     string         `json:"boot,omitempty"`     // boot id of the host then
	Began    time.Time      `json:"began,omitzero"`     // claimed
	Ended    time.Time      `json:"ended,omitzero"`
	Percent  int            `json:"percent,omitempty"`
	Note     string         `json:"note,omitempty"`  // what it does or waits for, for people
	Count    int64          `json:"count,omitempty"` // that its executor has told: of what, its kind says
	Exit     int            `json:"exit,omitempty"`  // of a program that was run
	// it failed, is unknown or was skipped: the text of an error, or what an operator said; nothing is decided by it
	Why   string    `json:"why,omitempty"`
	Tail  string    `json:"tail,omitempty"`  // end of its log, at most MaxTail, also while it runs
	Said  time.Time `json:"said,omitzero"`   // when something was last added to the log, by the host's clock
	By    string    `json:"by,omitempty"`    // operator who retried or skipped it
	Found []Finding `json:"found,omitempty"` // what its program has said of trouble, the worst first
	// Generation is that of the coordinator's agent that granted this attempt.
	Generation int   `json:"generation,omitempty"`
	Mod        int64 `json:"-"` // revision
}

// Finding is a line of what a program has said, or of a report that it has left, that tells of
// trouble. Nothing is decided by it.
type Finding struct {
	Fault string `json:"fault"`          // id of what is known of such lines
	Level string `json:"level"`          // fail or warn
	File  string `json:"file,omitempty"` // of a report, on the step's host; "": what the program has said
	Text  string `json:"text"`           // of the line
}

// MaxTail bounds Record.Tail, bytes. The whole log is on the host.
const MaxTail = 2 << 10

// Decision is what a Planner wants.
type Decision struct {
	Grant []string        // steps to begin, in order
	Waits []reason.Reason // why others do not begin
	Job   *Job            // the job's record, changed; nil: as it is
}

// Planner knows the steps of one job and says what comes next. It is pure: the
// same arguments give the same decision.
type Planner interface {
	Steps() []Step
	Next(j Job, recs map[string]Record, hosts map[cluster.HostID]HostState, now time.Time) Decision
}

// Leaver is a Planner whose job may go on without some of its steps.
type Leaver interface {
	// Leaves tells which steps are left out of the rest of a job.
	Leaves(j Job) func(Step) bool
}

// HostState is what the coordinator knows of a host.
type HostState struct {
	Up         bool   // its agent has renewed its record within the lease
	Boot       string // boot id
	Version    string // of its agent, for people
	Generation int    // of its agent
	Member     bool   // it has a vote in Holdfast's own store; false for all: it is not known who has
}

// Command is what an operator may ask of a job.
type Command string

// Commands. Retry and Skip name a step.
const (
	Pause  Command = "pause"
	Resume Command = "resume"
	Retry  Command = "retry"
	Skip   Command = "skip"
	Abort  Command = "abort"
)

// Obey applies a command to the job's record.
func Obey(j Job, c Command, user string) (Job, error) {
	switch {
	case j.State == Ended:
		return j, fmt.Errorf("%s: %s %s has ended (%s)", c, j.Kind, j.ID, j.Result)
	case c == Pause && j.State == Active:
		j.State = Paused
		j.Because(reason.PausedBy.With(user))
	case c == Resume && j.State == Paused:
		j.State = Active
		j.Because()
	case c == Abort:
		j.State = Aborting
		j.Because(reason.AbortedBy.With(user))
	default:
		return j, fmt.Errorf("%s: %s %s is %s", c, j.Kind, j.ID, j.State)
	}
	return j, nil
}

// ObeyStep applies Retry or Skip to the record of a step that is stuck.
func ObeyStep(j Job, r Record, c Command, user, reason string) (Record, error) {
	switch {
	case j.State == Ended || j.State == Aborting:
		return r, fmt.Errorf("%s %s: %s %s is %s", c, r.Step, j.Kind, j.ID, j.State)
	case !r.State.Stuck():
		return r, fmt.Errorf("%s %s: it is %s; only a step that failed or whose outcome is unknown can be "+
			"retried or skipped", c, r.Step, r.State.name())
	case c == Retry:
		r.State, r.By, r.Why, r.Note = Pending, user, "", "retried by "+user
	case c == Skip && reason == "":
		return r, fmt.Errorf("skip %s: a reason is needed", r.Step)
	case c == Skip:
		r.State, r.By, r.Why = Skipped, user, reason
	default:
		return r, fmt.Errorf("%s is no command for a step", c)
	}
	return r, nil
}

func (s StepState) name() string {
	if s == Pending {
		return "pending"
	}
	return string(s)
}

// Grant is the record with which the next attempt of a step may begin.
// generation is that of the coordinator's agent.
func Grant(r Record, step string, term int64, generation int) Record {
	return Record{Step: step, State: Granted, Attempt: r.Attempt + 1, Term: term, Generation: generation, By: r.By}
}

// Withdraw is the record of a granted step that nobody has begun and that shall
// not begin now.
func Withdraw(r Record) Record {
	return Record{Step: r.Step, State: Pending, Attempt: r.Attempt - 1, By: r.By}
}

// Claim is the record with which an agent's process begins a granted step.
func Claim(r Record, instance, boot string, now time.Time) Record {
	r.State, r.Instance, r.Boot, r.Began = Running, instance, boot, now
	return r
}
