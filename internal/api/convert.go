package api

import (
	"strings"
	"time"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
)

// The conversions keep every field; TestRoundTrip fails when one is forgotten.
// From the wire, a message that is absent counts as its zero value.

// text makes a string fit for the wire, which takes UTF-8 only: messages of the
// system may hold anything.
func text[S ~string](s S) string { return strings.ToValidUTF8(string(s), "\uFFFD") }

func timeToProto(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeFromProto(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func epochToProto(e cluster.Epoch) *apiv1.Epoch {
	return &apiv1.Epoch{Gen: e.Gen, Seq: e.Seq}
}

func epochFromProto(m *apiv1.Epoch) cluster.Epoch {
	return cluster.Epoch{Gen: m.GetGen(), Seq: m.GetSeq()}
}

func proofToProto(p cluster.Proof) *apiv1.Proof {
	return &apiv1.Proof{
		Kind:   text(p.Kind),
		Host:   text(p.Host),
		Epoch:  epochToProto(p.Epoch),
		WaitNs: int64(p.Wait),
		By:     text(p.By),
		Note:   text(p.Note),
	}
}

func proofFromProto(m *apiv1.Proof) cluster.Proof {
	return cluster.Proof{
		Kind:  cluster.ProofKind(m.GetKind()),
		Host:  cluster.HostID(m.GetHost()),
		Epoch: epochFromProto(m.GetEpoch()),
		Wait:  time.Duration(m.GetWaitNs()),
		By:    cluster.HostID(m.GetBy()),
		Note:  m.GetNote(),
	}
}

func ownerToProto(o cluster.Owner) *apiv1.Owner {
	return &apiv1.Owner{
		Resource: text(o.Resource),
		Epoch:    epochToProto(o.Epoch),
		State:    text(o.State),
		Host:     text(o.Host),
		To:       text(o.To),
		Claim:    o.Claim,
		Ready:    o.Ready,
		Proof:    proofToProto(o.Proof),
		Failures: int64(o.Failures),
		Reason:   text(o.Reason),
		TimeNs:   timeToProto(o.Time),
		Restarts: int64(o.Restarts),
	}
}

func ownerFromProto(m *apiv1.Owner) cluster.Owner {
	return cluster.Owner{
		Resource: cluster.ResourceID(m.GetResource()),
		Epoch:    epochFromProto(m.GetEpoch()),
		State:    cluster.OwnerState(m.GetState()),
		Host:     cluster.HostID(m.GetHost()),
		To:       cluster.HostID(m.GetTo()),
		Claim:    m.GetClaim(),
		Ready:    m.GetReady(),
		Proof:    proofFromProto(m.GetProof()),
		Failures: int(m.GetFailures()),
		Reason:   m.GetReason(),
		Time:     timeFromProto(m.GetTimeNs()),
		Restarts: int(m.GetRestarts()),
	}
}

func wantToProto(w cluster.Want) *apiv1.Want {
	m := &apiv1.Want{Run: w.Run, HandsOff: w.HandsOff, MoveTo: text(w.MoveTo)}
	for _, o := range w.Off {
		m.Off = append(m.Off, &apiv1.Off{Host: text(o.Host), Mod: o.Mod, User: text(o.User)})
	}
	for _, h := range w.Rest {
		m.Rest = append(m.Rest, text(h))
	}
	return m
}

func wantFromProto(m *apiv1.Want) cluster.Want {
	w := cluster.Want{Run: m.GetRun(), HandsOff: m.GetHandsOff(), MoveTo: cluster.HostID(m.GetMoveTo())}
	for _, o := range m.GetOff() {
		w.Off = append(w.Off, cluster.Off{Host: cluster.HostID(o.GetHost()), Mod: o.GetMod(), User: o.GetUser()})
	}
	for _, h := range m.GetRest() {
		w.Rest = append(w.Rest, cluster.HostID(h))
	}
	return w
}

func hostToProto(h cluster.HostStatus) *apiv1.HostStatus {
	return &apiv1.HostStatus{
		Host: &apiv1.Host{
			Name:              text(h.Name),
			Identity:          text(h.Identity),
			Boot:              text(h.Boot),
			Seq:               h.Seq,
			GuardNs:           int64(h.Guard),
			Watchdog:          text(h.Watchdog),
			WatchdogTimeoutNs: int64(h.WatchdogTimeout),
			HandsOff:          h.HandsOff,
			Fit:               h.Fit,
			Why:               text(h.Why),
			Addr:              text(h.Addr),
			Version:           text(h.Version),
			Guest:             text(h.Guest),
			Expelled:          epochToProto(h.Expelled),
			Beat:              int64(h.Beat),
			Machine:           text(h.Machine),
			Fenced:            text(h.Fenced),
			Unhealthy:         text(h.Unhealthy),
			MigrateTls:        h.MigrateTLS,
		},
		Alive:       h.Alive,
		SilentNs:    int64(h.Silent),
		Coordinator: h.Coordinator,
	}
}

func hostFromProto(s *apiv1.HostStatus) cluster.HostStatus {
	m := s.GetHost()
	return cluster.HostStatus{
		Host: cluster.Host{
			Name:            cluster.HostID(m.GetName()),
			Identity:        m.GetIdentity(),
			Boot:            m.GetBoot(),
			Seq:             m.GetSeq(),
			Guard:           time.Duration(m.GetGuardNs()),
			Watchdog:        m.GetWatchdog(),
			WatchdogTimeout: time.Duration(m.GetWatchdogTimeoutNs()),
			HandsOff:        m.GetHandsOff(),
			Fit:             m.GetFit(),
			Why:             m.GetWhy(),
			Addr:            m.GetAddr(),
			Version:         m.GetVersion(),
			Guest:           cluster.GuestState(m.GetGuest()),
			Expelled:        epochFromProto(m.GetExpelled()),
			Beat:            int(m.GetBeat()),
			Machine:         m.GetMachine(),
			Fenced:          m.GetFenced(),
			Unhealthy:       m.GetUnhealthy(),
			MigrateTLS:      m.GetMigrateTls(),
		},
		Alive:       s.GetAlive(),
		Silent:      time.Duration(s.GetSilentNs()),
		Coordinator: s.GetCoordinator(),
	}
}

func timingsToProto(t cluster.Timings) *apiv1.Timings {
	return &apiv1.Timings{
		LeaseNs:     int64(t.Lease),
		KeepaliveNs: int64(t.Keepalive),
		GraceNs:     int64(t.Grace),
		WatchdogNs:  int64(t.Watchdog),
		EpsilonNs:   int64(t.Epsilon),
		Drift:       t.Drift,
		ElectionNs:  int64(t.Election),
		HeartbeatNs: int64(t.Heartbeat),
		DetectionNs: int64(t.Detection),
	}
}

func timingsFromProto(m *apiv1.Timings) cluster.Timings {
	return cluster.Timings{
		Lease:     time.Duration(m.GetLeaseNs()),
		Keepalive: time.Duration(m.GetKeepaliveNs()),
		Grace:     time.Duration(m.GetGraceNs()),
		Watchdog:  time.Duration(m.GetWatchdogNs()),
		Epsilon:   time.Duration(m.GetEpsilonNs()),
		Drift:     m.GetDrift(),
		Election:  time.Duration(m.GetElectionNs()),
		Heartbeat: time.Duration(m.GetHeartbeatNs()),
		Detection: time.Duration(m.GetDetectionNs()),
	}
}

// StatusToProto returns the wire form of a status.
func StatusToProto(s cluster.Status) *apiv1.Status {
	m := &apiv1.Status{
		TimeNs:      timeToProto(s.Time),
		Cluster:     text(s.Cluster),
		Self:        text(s.Self),
		Connected:   s.Connected,
		StoreError:  text(s.StoreError),
		Coordinator: text(s.Coordinator),
		Term:        s.Term,
		Want:        wantToProto(s.Want),
		Owner:       ownerToProto(s.Owner),
		Percent:     int64(s.Percent),
		Takeover: &apiv1.Takeover{
			Possible: s.Takeover.Possible,
			WithinNs: int64(s.Takeover.Within),
			Why:      text(s.Takeover.Why),
		},
		Waiting: text(s.Waiting),
		Timings: timingsToProto(s.Timings),
	}
	for _, h := range s.Members {
		m.Members = append(m.Members, text(h))
	}
	for _, h := range s.Hosts {
		m.Hosts = append(m.Hosts, hostToProto(h))
	}
	return m
}

// StatusFromProto returns the status that a wire form holds. Times are in UTC.
func StatusFromProto(m *apiv1.Status) cluster.Status {
	s := cluster.Status{
		Time:        timeFromProto(m.GetTimeNs()),
		Cluster:     m.GetCluster(),
		Self:        cluster.HostID(m.GetSelf()),
		Connected:   m.GetConnected(),
		StoreError:  m.GetStoreError(),
		Coordinator: cluster.HostID(m.GetCoordinator()),
		Term:        m.GetTerm(),
		Want:        wantFromProto(m.GetWant()),
		Owner:       ownerFromProto(m.GetOwner()),
		Percent:     int(m.GetPercent()),
		Takeover: cluster.Takeover{
			Possible: m.GetTakeover().GetPossible(),
			Within:   time.Duration(m.GetTakeover().GetWithinNs()),
			Why:      m.GetTakeover().GetWhy(),
		},
		Waiting: m.GetWaiting(),
		Timings: timingsFromProto(m.GetTimings()),
	}
	for _, h := range m.GetMembers() {
		s.Members = append(s.Members, cluster.HostID(h))
	}
	for _, h := range m.GetHosts() {
		s.Hosts = append(s.Hosts, hostFromProto(h))
	}
	return s
}

// EventsToProto returns the wire form of events.
func EventsToProto(events []cluster.Event) []*apiv1.Event {
	var out []*apiv1.Event
	for _, e := range events {
		out = append(out, &apiv1.Event{
			TimeNs:   timeToProto(e.Time),
			Kind:     text(e.Kind),
			By:       text(e.By),
			Resource: text(e.Resource),
			Host:     text(e.Host),
			To:       text(e.To),
			Epoch:    epochToProto(e.Epoch),
			Proof:    text(e.Proof),
			WaitNs:   int64(e.Wait),
			User:     text(e.User),
			Detail:   text(e.Detail),
		})
	}
	return out
}

func eventsFromProto(ms []*apiv1.Event) []cluster.Event {
	var out []cluster.Event
	for _, m := range ms {
		out = append(out, cluster.Event{
			Time:     timeFromProto(m.GetTimeNs()),
			Kind:     cluster.EventKind(m.GetKind()),
			By:       cluster.HostID(m.GetBy()),
			Resource: cluster.ResourceID(m.GetResource()),
			Host:     cluster.HostID(m.GetHost()),
			To:       cluster.HostID(m.GetTo()),
			Epoch:    epochFromProto(m.GetEpoch()),
			Proof:    cluster.ProofKind(m.GetProof()),
			Wait:     time.Duration(m.GetWaitNs()),
			User:     m.GetUser(),
			Detail:   m.GetDetail(),
		})
	}
	return out
}

// StoreToProto returns the wire form of the store's status.
func StoreToProto(s cluster.StoreStatus) *apiv1.GetStoreStatusResponse {
	m := &apiv1.GetStoreStatusResponse{Generation: s.Generation}
	for _, x := range s.Members {
		m.Members = append(m.Members, &apiv1.StoreMember{
			Name: text(x.Name), Url: text(x.URL), Leader: x.Leader, Learner: x.Learner, Reachable: x.Reachable, Error: text(x.Error),
			Version: text(x.Version), Size: x.Size, InUse: x.InUse, Quota: x.Quota, Behind: x.Behind, Alarms: x.Alarms,
		})
	}
	for _, b := range s.Backups {
		m.Backups = append(m.Backups, BackupToProto(b))
	}
	return m
}

func storeFromProto(m *apiv1.GetStoreStatusResponse) cluster.StoreStatus {
	s := cluster.StoreStatus{Generation: m.GetGeneration()}
	for _, x := range m.GetMembers() {
		s.Members = append(s.Members, cluster.StoreMember{
			Name: x.GetName(), URL: x.GetUrl(), Leader: x.GetLeader(), Learner: x.GetLearner(), Reachable: x.GetReachable(), Error: x.GetError(),
			Version: x.GetVersion(), Size: x.GetSize(), InUse: x.GetInUse(), Quota: x.GetQuota(), Behind: x.GetBehind(), Alarms: x.GetAlarms(),
		})
	}
	for _, b := range m.GetBackups() {
		s.Backups = append(s.Backups, backupFromProto(b))
	}
	return s
}

// BackupToProto returns the wire form of a backup.
func BackupToProto(b cluster.Backup) *apiv1.Backup {
	return &apiv1.Backup{File: text(b.File), TimeNs: timeToProto(b.Time), Size: b.Size, Revision: b.Revision}
}

func backupFromProto(m *apiv1.Backup) cluster.Backup {
	return cluster.Backup{File: m.GetFile(), Time: timeFromProto(m.GetTimeNs()), Size: m.GetSize(), Revision: m.GetRevision()}
}

// ProgressToProto returns the wire form of a migration's progress.
func ProgressToProto(p Progress) *apiv1.MigrateResponse {
	return &apiv1.MigrateResponse{
		Percent: int64(p.Percent),
		State:   text(p.State),
		Note:    text(p.Note),
		Done:    p.Done,
		Host:    text(p.Host),
		Epoch:   epochToProto(p.Epoch),
	}
}

func progressFromProto(m *apiv1.MigrateResponse) Progress {
	return Progress{
		Percent: int(m.GetPercent()),
		State:   cluster.OwnerState(m.GetState()),
		Note:    m.GetNote(),
		Done:    m.GetDone(),
		Host:    cluster.HostID(m.GetHost()),
		Epoch:   epochFromProto(m.GetEpoch()),
	}
}
