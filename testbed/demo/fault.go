package demo

import (
	"fmt"
	"slices"

	"holdfast/internal/cluster"
)

// Fault is what the demo breaks.
type Fault string

// Faults.
const (
	None       Fault = "none"
	PowerLoss  Fault = "power-loss"
	Isolate    Fault = "isolate"
	AgentKill  Fault = "agent-kill"
	VMCrash    Fault = "vm-crash"
	QuorumLoss Fault = "quorum-loss"
)

// Faults lists all faults.
func Faults() []Fault {
	return []Fault{PowerLoss, Isolate, AgentKill, VMCrash, QuorumLoss, None}
}

// About says in a sentence what the fault is.
func (f Fault) About() string {
	switch f {
	case None:
		return "nothing is broken"
	case PowerLoss:
		return "the host that runs the VM loses power, and gets it back later"
	case Isolate:
		return "the host that runs the VM loses its network, and gets it back later"
	case AgentKill:
		return "the agent on the VM's host is killed; the VM must not notice"
	case VMCrash:
		return "the VM crashes, its host does not"
	case QuorumLoss:
		return "both other hosts lose power: the VM must stop, and return with them"
	}
	return "unknown"
}

func (f Fault) check() error {
	if !slices.Contains(Faults(), f) {
		return fmt.Errorf("value %q: want power-loss, isolate, agent-kill, vm-crash, quorum-loss or none", string(f))
	}
	return nil
}

// Result is what a run has shown.
type Result struct {
	Driver string `json:"driver"`
	Fault  Fault  `json:"fault"`
	// Recovered: the VM answers again, as the fault demands it. null when nothing was broken: there was nothing to recover.
	Recovered *bool `json:"recovered"`
	// OutageMS is the client's longest time without an answer after the fault, in
	// ms. Less than 250 ms (libvirt: 500 ms) counts as 0: that much is the machine's
	// own noise.
	OutageMS int64  `json:"outage_ms"`
	Phases   Phases `json:"phases"`
	// MaxHolders is the largest number of VMs that ran at one instant: 1 is right.
	MaxHolders int `json:"max_holders"`
	// StoppedByItself: with quorum-loss, the VM stopped before the quorum returned
	// and without a reset of its host.
	StoppedByItself *bool   `json:"stopped_by_itself,omitempty"`
	Problem         string  `json:"problem,omitempty"` // why it is not a success
	Dir             string  `json:"dir,omitempty"`     // where the files are, if they were kept
	Events          []Event `json:"events"`
}

// Phases is where the time of an outage went, each part in ms, to the new VM's first answer. All are 0 when there was nothing to
// recover.
type Phases struct {
	DetectMS int64 `json:"detect_ms"` // to the first event about the loss
	ProofMS  int64 `json:"proof_ms"`  // to the new assignment, which needs the proof
	StartMS  int64 `json:"start_ms"`  // to the new start
	AnswerMS int64 `json:"answer_ms"` // to the client's first answer
}

// Err is nil when the run was a success.
func (r Result) Err() error {
	if r.Problem != "" {
		return fmt.Errorf("demo of %s: %s", r.Fault, r.Problem)
	}
	return nil
}

// recovered notes whether the VM has recovered.
func (r *Result) recovered(yes bool) { r.Recovered = &yes }

// judge finds out whether the run was a success.
func (r *Result) judge() {
	switch {
	case r.Problem != "":
	case r.MaxHolders > 1:
		r.Problem = fmt.Sprintf("the VM ran %d times at one instant", r.MaxHolders)
	case r.MaxHolders == 0:
		r.Problem = "the VM never ran"
	case r.StoppedByItself != nil && !*r.StoppedByItself:
		r.Problem = "the VM did not stop by itself before the quorum was back"
	case r.Fault != None && (r.Recovered == nil || !*r.Recovered):
		r.Problem = "the VM did not recover"
	}
}

// isLoss selects the events that say that the VM on the host, or the host, was
// lost.
func isLoss(host cluster.HostID) func(Event) bool {
	kind := clusterKind(cluster.EvSilent, cluster.EvReleased, cluster.EvTakeover)
	return func(e Event) bool { return e.Host == host && kind(e) }
}
