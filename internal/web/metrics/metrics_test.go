package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/job"
	"holdfast/internal/server"
	"holdfast/internal/server/servertest"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/probe"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/try"
)

var now = time.Unix(1_800_000_000, 0)

// bench has metrics of a cluster in memory, whose time stands still unless a test sets it.
type bench struct {
	*Metrics
	t       *testing.T
	cluster *servertest.Fake
	jobs    *servertest.Jobs
	upgrade *servertest.Upgrades
	tokens  []cluster.Token
	at      time.Time
}

func newBench(t *testing.T, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, at: now, cluster: servertest.New(servertest.Three(now)), jobs: &servertest.Jobs{Now: now}}
	b.cluster.Update(func(s *cluster.Status) { s.Members = []cluster.HostID{"node1", "node2", "node3"} })
	b.upgrade = servertest.NewUpgrades(b.jobs)
	log := slog.New(slog.DiscardHandler)
	srv, err := server.New(b.cluster, server.Options{Socket: filepath.Join(try.ShortDir(t), "s"), Log: log, Jobs: b.jobs,
		Upgrade: b.upgrade})
	try.Must(t, err)
	o := Options{API: api.Through("here", srv.As(server.Caller{User: "metrics", Role: cluster.Viewer})),
		Version: "1.2.3", Log: log, Works: true,
		Tokens: func(context.Context) ([]cluster.Token, error) { return b.tokens, nil },
		Losses: func(context.Context, string) (probe.Summary, error) { return probe.Summary{}, probe.ErrNone }}
	for _, f := range change {
		f(&o)
	}
	b.Metrics = New(o)
	b.now = func() time.Time { return b.at }
	return b
}

// scrape gives all metrics by name with labels, as name{label="value"}.
func (b *bench) scrape() map[string]float64 {
	b.t.Helper()
	out := map[string]float64{}
	for name, f := range b.families() {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			key := name
			if len(labels) > 0 {
				key += "{" + strings.Join(labels, ",") + "}"
			}
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				out[key+" count"] = float64(m.GetHistogram().GetSampleCount())
				out[key+" sum"] = m.GetHistogram().GetSampleSum()
			case dto.MetricType_COUNTER:
				out[key] = m.GetCounter().GetValue()
			default:
				out[key] = m.GetGauge().GetValue()
			}
		}
	}
	return out
}

func (b *bench) families() map[string]*dto.MetricFamily {
	b.t.Helper()
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequestWithContext(b.t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		b.t.Fatalf("%d: %s", w.Code, w.Body)
	}
	p := expfmt.NewTextParser(model.LegacyValidation)
	all, err := p.TextToMetricFamilies(w.Body)
	try.Must(b.t, err)
	return all
}

// wants compares what was scraped; -1 stands for absent.
func wants(t *testing.T, what string, have, want map[string]float64) {
	t.Helper()
	for name, v := range want {
		if got, is := have[name]; is != (v >= 0) || is && got != v {
			t.Errorf("%s: %s is %v (there: %v), want %v", what, name, got, is, v)
		}
	}
}

func TestAClusterThatIsWell(t *testing.T) {
	b := newBench(t)
	b.at = now.Add(500 * time.Millisecond)
	wants(t, "well", b.scrape(), map[string]float64{
		`holdfast_build_info{version="1.2.3"}`: 1, `holdfast_store_connected`: 1, `holdfast_status_age_seconds`: 0.5,
		`holdfast_coordinator_elected`: 1, `holdfast_suspended`: 0, `holdfast_resource_up`: 1, `holdfast_resource_wanted`: 1,
		`holdfast_resource_on_host{host="node1"}`: 1, `holdfast_resource_on_host{host="node2"}`: 0,
		`holdfast_resource_state{state="running"}`: 1, `holdfast_resource_state{state="released"}`: 0,
		`holdfast_resource_state_timestamp_seconds`: 1_800_000_000 - 3600, `holdfast_resource_unhealthy`: 0,
		`holdfast_takeover_possible`: 1, `holdfast_takeover_within_seconds`: 8.6,
		`holdfast_members`: 3, `holdfast_members_quorum`: 2, `holdfast_members_voting`: 3,
		`holdfast_host_up{host="node3"}`: 1, `holdfast_host_renewal_age_seconds{host="node3"}`: 0.4,
		`holdfast_host_coordinator{host="node2"}`: 1, `holdfast_host_able{host="node3"}`: 1, `holdfast_host_watchdog_armed{host="node1"}`: 1,
		`holdfast_host_guard_seconds{host="node1"}`: 2, `holdfast_host_votes{host="node1"}`: -1, // it does not tell
		`holdfast_fence_check_success{host="node2"}`: -1, `holdfast_token_expiry_timestamp_seconds`: -1,
		`holdfast_guest_hosts{state="up"}`: 1, `holdfast_guest_hosts{state="silent"}`: 0, `holdfast_guests_running`: 12,
		`holdfast_certificates_in_trouble`: 2, `holdfast_certificate_expiry_timestamp_seconds{certificate="agent",host="node1"}`: float64(time.Date(2099, 1, 2, 3, 4, 0, 0, time.UTC).Unix()),
		`holdfast_source_success{source="jobs"}`: 1, `holdfast_source_success{source="probe"}`: 1, `holdfast_source_success{source="member"}`: -1,
		`holdfast_takeovers_total{proof="deadline"}`: 0, `holdfast_outage_phase_seconds{phase="proof"} count`: 0,
		`holdfast_probe_packets{result="lost"}`: -1,
	})
}

func TestWhatIsWrongShows(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*cluster.Status)
		want   map[string]float64
	}{
		{"no quorum", func(s *cluster.Status) {
			s.Connected, s.Coordinator, s.StoreError, s.AsOf = false, "", "no leader", now.Add(-20*time.Second)
			s.Takeover = cluster.Takeover{Why: "no quorum"}
		}, map[string]float64{`holdfast_store_connected`: 0, `holdfast_status_age_seconds`: 20, `holdfast_resource_up`: -1,
			`holdfast_coordinator_elected`: -1, `holdfast_takeover_possible`: 0, `holdfast_members_voting`: -1, `holdfast_host_up{host="node1"}`: 0,
			`holdfast_host_able{host="node1"}`: 0}},
		{"nothing was read yet", func(s *cluster.Status) { *s = cluster.Status{Time: now, Self: "node1", StoreError: "no leader"} },
			map[string]float64{`holdfast_store_connected`: 0, `holdfast_status_age_seconds`: -1, `holdfast_takeover_possible`: -1,
				`holdfast_resource_wanted`: -1, `holdfast_members`: -1}},
		{"the holder is silent", func(s *cluster.Status) {
			s.Hosts[0].Alive, s.Hosts[0].Silent, s.Hosts[0].Guest = false, 7*time.Second, cluster.GuestUnknown
		}, map[string]float64{`holdfast_resource_up`: 0, `holdfast_resource_unhealthy`: -1, `holdfast_host_up{host="node1"}`: 0,
			`holdfast_host_renewal_age_seconds{host="node1"}`: 7, `holdfast_host_able{host="node1"}`: -1,
			`holdfast_host_watchdog_armed{host="node1"}`: -1, `holdfast_members_voting`: 2, `holdfast_resource_on_host{host="node1"}`: 1}},
		{"a host was only read of", func(s *cluster.Status) { s.Hosts[2].Alive, s.Hosts[2].Silent = false, time.Second },
			map[string]float64{`holdfast_host_up{host="node3"}`: -1, `holdfast_host_able{host="node3"}`: -1}},
		{"stopped", func(s *cluster.Status) {
			s.Want.Run, s.Owner.State, s.Owner.Host, s.Hosts[0].Guest = false, cluster.Released, "", cluster.GuestAbsent
		}, map[string]float64{`holdfast_resource_up`: 0, `holdfast_resource_wanted`: 0, `holdfast_resource_on_host{host="node1"}`: 0,
			`holdfast_takeover_proof{proof="deadline"}`: -1}},
		{"proofs", func(s *cluster.Status) { s.Takeover.ByDeadline = true }, map[string]float64{
			`holdfast_takeover_proof{proof="deadline"}`: 1, `holdfast_takeover_proof{proof="fenced"}`: 0}},
		{"disarmed, in maintenance, without a vote", func(s *cluster.Status) {
			s.Hosts[1].HandsOff, s.Want.Maintenance, s.Want.HandsOff = true, []cluster.HostID{"node3"}, true
			s.Hosts[0].Vote, s.Hosts[2].Vote = cluster.Votes, "its member of the store does not answer"
		}, map[string]float64{`holdfast_host_watchdog_armed{host="node2"}`: 0, `holdfast_host_guard_seconds{host="node2"}`: -1,
			`holdfast_host_maintenance{host="node3"}`: 1, `holdfast_host_able{host="node3"}`: 0, `holdfast_suspended`: 1,
			`holdfast_host_votes{host="node1"}`: 1, `holdfast_host_votes{host="node3"}`: 0, `holdfast_members_voting`: 2}},
		{"the store is elsewhere", func(s *cluster.Status) { s.Hosts[1].Vote = cluster.NoMember }, map[string]float64{
			`holdfast_members_voting`: -1, `holdfast_members_quorum`: -1, `holdfast_host_votes{host="node2"}`: -1}},
		{"two with an arbiter", func(s *cluster.Status) { s.Members, s.Hosts = s.Members[:2], s.Hosts[:2] }, map[string]float64{
			`holdfast_members`: 2, `holdfast_members_quorum`: -1, `holdfast_members_voting`: 2}},
		{"fence devices", func(s *cluster.Status) {
			s.FenceCheck = cluster.FenceCheck{Host: "node2", Time: now.Add(-time.Minute), Error: "no route to host"}
		}, map[string]float64{`holdfast_fence_check_success{host="node2"}`: 0,
			`holdfast_fence_check_timestamp_seconds{host="node2"}`: 1_800_000_000 - 60}},
	} {
		b := newBench(t)
		b.cluster.Update(c.change)
		have := b.scrape()
		wants(t, c.what, have, c.want)
		// What a screen says of a takeover is what the metric says.
		line := told.Status(b.cluster.Status(), nil).Takeover.Text
		if v, is := have["holdfast_takeover_possible"]; is == strings.HasPrefix(line, "unknown") ||
			is && (v == 0) != strings.HasPrefix(line, "NOT") {
			t.Errorf("%s: %q, and the metric is %v (%v)", c.what, line, v, is)
		}
	}
}

// TestThousandsOfHostsAddNoSeries: they are counted.
func TestThousandsOfHostsAddNoSeries(t *testing.T) {
	b := newBench(t)
	before := len(b.scrape())
	if _, err := b.jobs.Hosts(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		b.jobs.Reported = append(b.jobs.Reported, inventory.Summary{Name: cluster.HostID(fmt.Sprintf("c%d", i)), Up: i%3 > 0,
			Problem: strings.Repeat("no pool", i%2), Guests: 10, Certificates: []inventory.Certificate{{Which: "agent", Ends: now.Add(
				time.Duration(i+1) * time.Hour)}}})
	}
	b.at = now.Add(othersFor)
	have := b.scrape()
	wants(t, "many", have, map[string]float64{`holdfast_guest_hosts{state="up"}`: 1001, `holdfast_guest_hosts{state="silent"}`: 1000,
		`holdfast_guest_hosts{state="trouble"}`: 1000, `holdfast_guest_hosts_certificate_expiry_timestamp_seconds{certificate="agent"}`: 1_800_003_600})
	if n := len(have) - before; n != 1 {
		t.Errorf("3000 hosts add %d series", n)
	}
}

func TestOutages(t *testing.T) {
	b := newBench(t)
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	over := func(from int, proof cluster.ProofKind) []cluster.Event {
		return []cluster.Event{
			{Time: at(from), Kind: cluster.EvTakeover, Host: "node1", To: "node2", Proof: proof, Wait: 8 * time.Second},
			{Time: at(from + 20), Kind: cluster.EvStarted, Host: "node2"},
		}
	}
	b.cluster.Log(over(0, cluster.ProofFenced)...) // before the agent
	b.cluster.Log(over(100, cluster.ProofDeadline)[0])
	wants(t, "what was before is not counted", b.scrape(), map[string]float64{`holdfast_takeovers_total{proof="fenced"}`: 0,
		`holdfast_outage_phase_seconds{phase="start"} count`: 0})
	b.cluster.Log(over(100, cluster.ProofDeadline)[1])
	b.cluster.Log(over(200, cluster.ProofFenced)...)
	b.cluster.Log(cluster.Event{Time: at(300), Kind: cluster.EvFenceFail, Host: "node1"}, over(400, cluster.ProofDeadline)[0],
		cluster.Event{Time: at(410), Kind: cluster.EvReleased}, cluster.Event{Time: at(500), Kind: cluster.EvStarted, Host: "node2"},
		cluster.Event{Time: at(510), Kind: cluster.EvReleased, Host: "node2"},
		cluster.Event{Time: at(511), Kind: cluster.EvAssigned, Host: "node2"},
		cluster.Event{Time: at(512), Kind: cluster.EvReleased, Host: "node2"}, // the start has failed
		cluster.Event{Time: at(517), Kind: cluster.EvStarted, Host: "node2"},
		cluster.Event{Time: at(520), Kind: cluster.EvStopping, Host: "node2"},
		cluster.Event{Time: at(525), Kind: cluster.EvReleased, Host: "node2"},
		cluster.Event{Time: at(560), Kind: cluster.EvReleased, Host: "node2"},
		cluster.Event{Time: at(590), Kind: cluster.EvStarted, Host: "node2"},
		cluster.Event{Time: at(600), Kind: cluster.EvOutage}, cluster.Event{Time: at(603), Kind: cluster.EvOutageOver},
		cluster.Event{Time: at(604), Kind: cluster.EvOutageOver})
	wants(t, "what was read is good for a while", b.scrape(), map[string]float64{`holdfast_takeovers_total{proof="fenced"}`: 0})
	b.at = now.Add(eventsFor)
	for range 2 { // each is counted once
		wants(t, "counted", b.scrape(), map[string]float64{
			`holdfast_takeovers_total{proof="fenced"}`: 1, `holdfast_takeovers_total{proof="deadline"}`: 1,
			`holdfast_outage_phase_seconds{phase="proof"} count`: 2, `holdfast_outage_phase_seconds{phase="proof"} sum`: 16,
			`holdfast_outage_phase_seconds{phase="start"} count`: 2, `holdfast_outage_phase_seconds{phase="start"} sum`: 40,
			`holdfast_outage_phase_seconds{phase="restart"} count`: 2, `holdfast_outage_phase_seconds{phase="restart"} sum`: 107,
			`holdfast_fence_failures_total`: 1, `holdfast_pair_outage_seconds count`: 1, `holdfast_pair_outage_seconds sum`: 3,
		})
		b.at = b.at.Add(eventsFor)
	}
}

func TestJobs(t *testing.T) {
	b := newBench(t)
	b.jobs.Fails = []cluster.HostID{"node2"}
	j, err := b.jobs.DrainHost(t.Context(), "root", "node2")
	try.Must(t, err)
	wants(t, "begun", b.scrape(), map[string]float64{`holdfast_jobs{kind="host",state="active"}`: 1,
		`holdfast_job_steps{kind="host",state="running"}`: 1, `holdfast_job_last_failed{kind="host"}`: 0})
	if j, err = b.jobs.Get(t.Context(), j.ID); err != nil || j.Result != "failed" {
		t.Fatalf("%+v, %v", j, err)
	}
	b.at = now.Add(othersFor)
	wants(t, "failed", b.scrape(), map[string]float64{`holdfast_jobs{kind="host",state="active"}`: -1,
		`holdfast_jobs{kind="host",state="failed"}`: 1, `holdfast_job_steps{kind="host",state="running"}`: -1,
		`holdfast_job_last_failed{kind="host"}`: 1})
}

// TestAStoreThatHangs holds up a scrape for a bounded time, and hides nothing that is known without it.
func TestAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.cluster.Hang()
		began := time.Now()
		wants(t, "the store hangs", b.scrape(), map[string]float64{`holdfast_source_success{source="events"}`: 0, `holdfast_resource_up`: 1,
			`holdfast_takeover_possible`: 1, `holdfast_source_success{source="jobs"}`: 1})
		if took := time.Since(began); took > readWithin { // of the bubble's clock
			t.Errorf("it took %s", took)
		}
	})
}

// TestAHostWithoutJobs has none of their metrics, and no source fails.
func TestAHostWithoutJobs(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Works = false })
	wants(t, "without jobs", b.scrape(), map[string]float64{`holdfast_source_success{source="jobs"}`: -1, `holdfast_guests_running`: -1,
		`holdfast_source_success{source="status"}`: 1})
}

// TestASourceThatFails: what it would tell is absent, all else is there, and source_success tells it.
func TestASourceThatFails(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Tokens = func(context.Context) ([]cluster.Token, error) { return nil, errors.New("not read yet") }
	})
	b.jobs.Unread(errors.New("nothing is known"))
	b.cluster.Fail(errors.New("no events"))
	wants(t, "failed", b.scrape(), map[string]float64{`holdfast_guests_running`: -1, `holdfast_guest_hosts{state="up"}`: -1,
		`holdfast_source_success{source="hosts"}`: 0, `holdfast_source_success{source="tokens"}`: 0,
		`holdfast_source_success{source="events"}`: 0, `holdfast_source_success{source="status"}`: 1, `holdfast_resource_up`: 1})
}

// TestLostPackets of the upgrade that runs.
func TestLostPackets(t *testing.T) {
	asked := ""
	b := newBench(t, func(o *Options) {
		o.Losses = func(_ context.Context, run string) (probe.Summary, error) {
			asked = run
			return probe.Summary{Guests: []probe.Guest{{Loss: check.Loss{Sent: 100, Lost: 3}}, {Loss: check.Loss{Sent: 50}}}}, nil
		}
	})
	ended := &request.Standing{Run: "u1", Job: &job.View{ID: "u1", Kind: "upgrade", State: "ended", Result: "done"}}
	b.upgrade.Show(ended)
	if have := b.scrape(); asked != "" {
		t.Errorf("the run %s was asked for, which has ended: %v", asked, have)
	}
	ended.Job.State = "active"
	b.upgrade.Show(ended)
	b.at = now.Add(othersFor)
	wants(t, "it runs", b.scrape(), map[string]float64{`holdfast_probe_packets{result="sent"}`: 150,
		`holdfast_probe_packets{result="lost"}`: 3, `holdfast_source_success{source="probe"}`: 1})
	if asked != "u1" {
		t.Errorf("run %q", asked)
	}
}

func TestTokens(t *testing.T) {
	b := newBench(t)
	b.tokens = []cluster.Token{{Expires: now.Add(-time.Hour)}, {Expires: now.Add(2 * time.Hour)}, {Expires: now.Add(time.Hour)}}
	wants(t, "tokens", b.scrape(), map[string]float64{`holdfast_token_expiry_timestamp_seconds`: 1_800_003_600})
}

// TestTheMembersMetricsArePassedOn as they are, and no others of its process.
func TestTheMembersMetricsArePassedOn(t *testing.T) {
	answer := "# HELP etcd_server_has_leader Whether or not a leader exists. 1 is existence, 0 is not.\n" +
		"# TYPE etcd_server_has_leader gauge\netcd_server_has_leader 1\n# TYPE etcd_debugging_x gauge\netcd_debugging_x 1\n# TYPE go_goroutines gauge\ngo_goroutines 1e+09\n"
	member := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metrics" {
			t.Errorf("asked for %s", r.URL)
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer member.Close()
	b := newBench(t, func(o *Options) { o.Member = NewMember(member.URL, nil) })
	have := b.scrape()
	wants(t, "member", have, map[string]float64{`etcd_server_has_leader`: 1, `etcd_debugging_x`: -1,
		`holdfast_source_success{source="member"}`: 1})
	if have["go_goroutines"] == 1e9 {
		t.Error("metrics of another process have the names of this one's")
	}
	answer, b.at = "no metrics {", now.Add(time.Minute)
	wants(t, "it tells nonsense", b.scrape(), map[string]float64{`etcd_server_has_leader`: -1,
		`holdfast_source_success{source="member"}`: 0, `holdfast_store_connected`: 1})
}

// TestConventions: names, units and helps are as Prometheus' own linter wants them.
func TestConventions(t *testing.T) {
	b := newBench(t)
	b.cluster.Update(func(s *cluster.Status) {
		s.FenceCheck, s.Hosts[0].Vote = cluster.FenceCheck{Host: "node2", Time: now}, cluster.Votes
	})
	b.tokens = []cluster.Token{{Expires: now.Add(time.Hour)}}
	_, err := b.jobs.DrainHost(t.Context(), "root", "node2")
	try.Must(t, err)
	var ours []*dto.MetricFamily
	families := b.families()
	for name, f := range families {
		if strings.HasPrefix(name, "holdfast_") {
			ours = append(ours, f)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(ours).Lint()
	try.Must(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// What a test of a whole cluster does not show.
	rare := []string{"holdfast_probe_packets", "holdfast_job_last_change_timestamp_seconds",
		"holdfast_guest_hosts_certificate_expiry_timestamp_seconds"}
	for _, m := range Names() {
		if families[m.Name] == nil && !slices.Contains(rare, m.Name) {
			t.Errorf("%s is nowhere", m.Name)
		}
		if !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: %q is no sentence", m.Name, m.Help)
		}
	}
}
