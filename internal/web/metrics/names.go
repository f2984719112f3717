package metrics

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// gauge is a metric that Metrics makes anew for each scrape.
type gauge struct {
	Name, Help string
	Labels     []string
	desc       *prometheus.Desc
}

// all are the gauges, in the order in which they are written below.
var all []*gauge

// def makes a gauge. Its help tells meaning and unit.
func def(name, help string, labels ...string) *gauge {
	g := &gauge{"holdfast_" + name, help, labels, prometheus.NewDesc("holdfast_"+name, help, labels, nil)}
	all = append(all, g)
	return g
}

// Of the host that answers, and of what it knows.
var (
	buildInfo = def("build_info", "Version of the agent that answers, as a label. Always 1.", "version")
	sourceOK  = def("source_success", "Whether a source of metrics could be read: 1 or 0. Where it is 0, the metrics of the source "+
		"are absent.", "source")
	sourceAge = def("source_age_seconds", "How long ago a source of metrics was read, in seconds.", "source")
	statusAge = def("status_age_seconds", "How old what the host knows of the cluster is, in seconds: about 0 while it reaches a "+
		"quorum of the store.")
	connected = def("store_connected", "Whether the host reaches a quorum of the store: 1 or 0.")
	elected   = def("coordinator_elected", "Whether there is a coordinator: 1 or 0. Absent without a quorum.")
	suspended = def("suspended", "Whether HA is suspended (hands off), so that nothing is decided: 1 or 0.")
)

// Of what the cluster keeps up: the management VM, or the services of a pair.
var (
	up = def("resource_up", "Whether the management VM, or the services of a pair, run: 1 while their host says so, else 0, "+
		"also while their host is silent. Absent without a quorum.")
	wanted    = def("resource_wanted", "Whether the management VM, or the services of a pair, are to run: 1 or 0.")
	onHost    = def("resource_on_host", "Whether the owner record lets the host run the management VM or the services: 1 or 0.", "host")
	state     = def("resource_state", "State of the owner record: 1 for the one that it is in, else 0.", "state")
	since     = def("resource_state_timestamp_seconds", "When the owner record got its state, as a Unix time in seconds.")
	unhealthy = def("resource_unhealthy", "Whether what runs fails its health check: 1 or 0. Absent while its host is silent.")
	possible  = def("takeover_possible", "Whether the loss of the holder would be answered by a takeover: 1 or 0, as status tells it.")
	byProof   = def("takeover_proof", "Whether the loss of the holder would be proved in this way, without a person: 1 or 0. Absent "+
		"without a holder or a quorum.", "proof")
	within = def("takeover_within_seconds", "Longest time from the last renewal of the holder to the decision to take over, in "+
		"seconds. Absent where no takeover is possible or needed.")
)

// Of members of the store.
var (
	members = def("members", "Configured members of the store.")
	quorum  = def("members_quorum", "Members that must vote for a quorum. Absent where an arbiter decides, and where the store is "+
		"elsewhere.")
	voting = def("members_voting", "Members that are alive and whose vote counts. Absent without a quorum, and where the store is "+
		"elsewhere.")
	hostUp      = def("host_up", "Whether the member renews its record: 1, or 0 while it is silent or cut off. Absent while not known.", "host")
	renewalAge  = def("host_renewal_age_seconds", "Time since the last renewal of the member was seen, in seconds.", "host")
	coordinator = def("host_coordinator", "Whether the member is the coordinator: 1 or 0.", "host")
	able        = def("host_able", "Whether the member can start what is kept up: 1, or 0, also in maintenance. Absent while silent.", "host")
	maintenance = def("host_maintenance", "Whether the member is in maintenance: 1 or 0.", "host")
	armed       = def("host_watchdog_armed", "Whether the watchdog of the member would reset it: 1, or 0 without a working one and "+
		"while it is disarmed. Absent while silent.", "host")
	guard  = def("host_guard_seconds", "Longest time from the deadline of the member to its reset (G), in seconds. Absent while silent.", "host")
	vote   = def("host_votes", "Whether a quorum can count on the member: 1 or 0. Absent while silent, and where it does not tell.", "host")
	fenced = def("host_expelled", "Whether a takeover ended the epoch of the member, and it has not come back since: 1 or 0.", "host")
)

// Of fence devices.
var (
	fenceOK = def("fence_check_success", "Whether the last check of the fence devices of the member, by the host that answers, has "+
		"succeeded: 1 or 0. Absent where it has none.", "host")
	fenceAt = def("fence_check_timestamp_seconds", "When the fence devices of the member were checked last by the host that answers, "+
		"as a Unix time in seconds.", "host")
)

// Of jobs.
var (
	jobs = def("jobs", "Jobs that are kept, by kind and state: active, paused and aborting, and of those that have ended done, "+
		"failed and aborted.", "kind", "state")
	jobChanged = def("job_last_change_timestamp_seconds", "When the newest job of the kind changed last, as a Unix time in seconds.", "kind")
	jobFailed  = def("job_last_failed", "Whether the newest job of the kind has ended and failed: 1 or 0.", "kind")
	steps      = def("job_steps", "Steps of jobs that have not ended, by kind of job and state of the step.", "kind", "state")
	packets    = def("probe_packets", "Packets to guests that were sent (result sent), and those that nobody answered (lost), in the "+
		"upgrade that runs.", "result")
)

// Of all hosts that report.
var (
	guestHosts = def("guest_hosts", "Hosts that run guests only, by state: up, silent, and trouble for those that are up and tell "+
		"what they can not find out.", "state")
	guests = def("guests_running", "Guests that run on hosts that report.")
	expiry = def("certificate_expiry_timestamp_seconds", "When the certificate of the member ends, as a Unix time in seconds.",
		"host", "certificate")
	expiryAll = def("guest_hosts_certificate_expiry_timestamp_seconds", "When the first certificate of hosts that run guests only "+
		"ends, as a Unix time in seconds.", "certificate")
	certTrouble = def("certificates_in_trouble", "Certificates of all hosts that were not renewed in time, have ended, or are not in use.")
	tokenExpiry = def("token_expiry_timestamp_seconds", "When the first token of a program that has not expired ends, as a Unix time "+
		"in seconds.")
)

// Counters and histograms, which count from the start of the agent on.
const (
	takeoversName = "holdfast_takeovers_total"
	takeoversHelp = "Takeovers since the agent of this host has begun, by proof."
	unfencedName  = "holdfast_fence_failures_total"
	unfencedHelp  = "Orders to fence devices that did not show the host off, since the agent of this host has begun."
	phaseName     = "holdfast_outage_phase_seconds"
	phaseHelp     = "Phases of outages, in seconds. Of takeovers: proof is from the last renewal of the lost host to the decision, " +
		"start from there until it runs. Without a takeover, restart is from the end of what runs until it runs again. Since the agent of this host has begun."
	pairName = "holdfast_pair_outage_seconds"
	pairHelp = "Times in which clients could not use the active database of a pair, from the event that tells it on, in seconds. " +
		"Since the agent of this host has begun."
)

// Prefixes of the metrics of the store's own member: of those that are passed on, and among them of those that are not.
const (
	memberPrefix   = "etcd_"
	unstablePrefix = "etcd_debugging_"
)

// Metric is a line of the table of docs/metrics.md.
type Metric struct {
	Name, Help string
	Labels     []string
}

// Names are all metrics but those of the member and of the process, by name.
func Names() []Metric {
	out := []Metric{{takeoversName, takeoversHelp, []string{"proof"}}, {unfencedName, unfencedHelp, nil},
		{phaseName, phaseHelp, []string{"phase"}}, {pairName, pairHelp, nil}}
	for _, g := range all {
		out = append(out, Metric{g.Name, g.Help, g.Labels})
	}
	slices.SortFunc(out, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return out
}
