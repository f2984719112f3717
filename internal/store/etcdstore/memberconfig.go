package etcdstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/features"

	"holdfast/internal/lib/pki"
	"holdfast/internal/lib/text"
)

// MemberConfig is all that a member is told; it is read from a JSON file.
type MemberConfig struct {
	Name         string            `json:"name"`            // of this member: the host's name
	Cluster      string            `json:"cluster"`         // id of the cluster; members of another one are refused
	DataDir      string            `json:"data_dir"`        // on a disk of its own if possible; made when absent
	ListenPeer   string            `json:"listen_peer"`     // URL
	ListenClient string            `json:"listen_client"`   // URL
	PeerURL      string            `json:"peer_url"`        // advertised to the members
	ClientURL    string            `json:"client_url"`      // advertised to clients
	Initial      map[string]string `json:"initial"`         // member name to peer URL of all, this one too
	Also         []string          `json:"-"`               // names that this process counts as members' beside those of Initial
	State        string            `json:"state,omitempty"` // of the cluster at the first start: new (default) or existing
	Join         *Join             `json:"join,omitempty"`  // start in a cluster that exists; beats Initial and State, see SaveJoin
	TLS          *TLSFiles         `json:"tls,omitempty"`   // nil: plain, for tests; URLs begin with http then
	HeartbeatMS  uint              `json:"heartbeat_ms,omitempty"`
	ElectionMS   uint              `json:"election_ms,omitempty"`
	QuotaMB      int64             `json:"quota_mb,omitempty"`    // of the data, in MiB; default 512
	Second       *SecondPath       `json:"second_path,omitempty"` // with TLS only
	LogFile      string            `json:"log_file,omitempty"`    // default: standard error
	LogLevel     string            `json:"log_level,omitempty"`   // debug, info, warn (default), error
	// of callers that run no member; nil, or without TLS: everybody may do everything
	Guard *Guard `json:"-"`
}

// TLSFiles names the PEM files for peers and clients alike, as pki writes them.
type TLSFiles struct {
	CA   string `json:"ca"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
	CRL  string `json:"crl,omitempty"` // revocation list, DER
}

// Heartbeat is the default time between two heartbeats of members. An election takes at least ten of them.
const Heartbeat = 100 * time.Millisecond

// Defaults of a member.
const (
	defaultQuotaMB = 512
	compaction     = "2m"
	// What a start finds in its own data is checked before (damage.go). etcd's check
	// against the peers at the start is left out: with a peer that does not answer it
	// takes 7 s, longer than a lease, and it can not tell which of two is wrong. A
	// flipped bit in a value is found by who reads it: the agents' records carry a sum.
	gates = string(features.CompactHashCheck) + "=true"
	// A member has the log of raft in memory: while it runs the last logKept entries and some 100 more, and when it
	// starts all since its last snapshot, up to logSnapshot. etcd's 5,000 and 10,000 are too many: entries have up
	// to 1.4 MiB, and one that can not read its log within LimitDATA=1G does not start again.
	// Hosts without a member put at most half the quota (256 MiB) into the store between two compactions, all
	// together. One alone may have 3 MiB at once at three members, and 48 KiB a second: beside the members' own
	// writes, 2 a second when nothing happens, that is 27 MiB in 1,000 entries. 3,000 honest hosts, with 300
	// reports of 50 KiB a second, have 50 MiB in them. They fill them in 3 s; a member that was away for longer
	// gets the database in place of entries.
	logKept     = 1000
	logSnapshot = 1000
	logLimits   = `{"maxsize": 10, "maxbackups": 2}` // MB, old files
)

// LoadMember reads a member's configuration, checks it and fills in defaults.
func LoadMember(file string) (MemberConfig, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return MemberConfig{}, fmt.Errorf("read configuration of the store member: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var c MemberConfig
	if err := dec.Decode(&c); err != nil {
		return MemberConfig{}, fmt.Errorf("parse %s: %w", file, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return MemberConfig{}, fmt.Errorf("parse %s: more text after the configuration", file)
	}
	c, err = c.withDefaults()
	if err != nil {
		return MemberConfig{}, fmt.Errorf("check %s: %w", file, err)
	}
	return c, nil
}

// withDefaults checks the configuration and returns it complete.
func (c MemberConfig) withDefaults() (MemberConfig, error) {
	if c.HeartbeatMS == 0 {
		c.HeartbeatMS = uint(Heartbeat.Milliseconds())
	}
	if c.ElectionMS == 0 {
		c.ElectionMS = 10 * c.HeartbeatMS
	}
	if c.QuotaMB == 0 {
		c.QuotaMB = defaultQuotaMB
	}
	if c.State == "" {
		c.State = embed.ClusterStateFlagNew
	}
	if c.LogLevel == "" {
		c.LogLevel = "warn"
	}
	return c, c.check()
}

func (c MemberConfig) check() error {
	switch {
	case c.Name == "":
		return errors.New("name is empty")
	case c.Cluster == "":
		return errors.New("cluster is empty")
	case !filepath.IsAbs(c.DataDir):
		return fmt.Errorf("data_dir %q is not an absolute path", c.DataDir)
	case c.State != embed.ClusterStateFlagNew && c.State != embed.ClusterStateFlagExisting:
		return fmt.Errorf("state is %q, want new or existing", c.State)
	case !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel):
		return fmt.Errorf("log_level is %q, want debug, info, warn or error", c.LogLevel)
	case c.LogFile != "" && !filepath.IsAbs(c.LogFile):
		return fmt.Errorf("log_file %q is not an absolute path", c.LogFile)
	case c.ElectionMS < 5*c.HeartbeatMS:
		return fmt.Errorf("election_ms is %d, want at least 5 times heartbeat_ms (%d)", c.ElectionMS, c.HeartbeatMS)
	case c.QuotaMB < 0:
		return fmt.Errorf("quota_mb is %d, want a positive number", c.QuotaMB)
	case c.Second != nil && (c.TLS == nil || !c.Second.Own.IsValid() || !c.Second.Peer.IsValid() || !c.Second.There.IsValid()):
		return errors.New("second_path: want own, peer and there, and tls")
	case c.Initial[c.Name] != c.PeerURL:
		return fmt.Errorf("initial has %q for %s, but peer_url is %q", c.Initial[c.Name], c.Name, c.PeerURL)
	}
	scheme := "http"
	if c.TLS != nil {
		scheme = "https"
	}
	urls := map[string]string{"listen_peer": c.ListenPeer, "listen_client": c.ListenClient, "peer_url": c.PeerURL, "client_url": c.ClientURL}
	for name, u := range c.Initial {
		urls["initial of "+name] = u
	}
	for field, u := range urls {
		parsed, err := url.Parse(u)
		if err != nil || parsed.Scheme != scheme || parsed.Hostname() == "" || !text.Port(parsed.Port()) {
			return fmt.Errorf("%s is %q, want %s://HOST:PORT", field, u, scheme)
		}
	}
	return nil
}

// etcd translates the configuration, which has been checked.
func (c MemberConfig) etcd() (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Name = c.Name
	cfg.Dir = c.DataDir
	cfg.InitialClusterToken = c.Cluster
	cfg.ClusterState = c.State
	cfg.InitialCluster = initialCluster(c.Initial)
	for _, t := range []struct {
		to   *[]url.URL
		from string
	}{
		{&cfg.ListenPeerUrls, c.ListenPeer}, {&cfg.ListenClientUrls, c.ListenClient},
		{&cfg.AdvertisePeerUrls, c.PeerURL}, {&cfg.AdvertiseClientUrls, c.ClientURL},
	} {
		u, err := url.Parse(t.from)
		if err != nil {
			return nil, fmt.Errorf("parse URL %q: %w", t.from, err)
		}
		*t.to = []url.URL{*u}
	}
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = logSnapshot, logKept
	cfg.TickMs, cfg.ElectionMs = c.HeartbeatMS, c.ElectionMS
	cfg.QuotaBackendBytes = c.QuotaMB << 20
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, compaction
	cfg.WatchProgressNotifyInterval = 10 * time.Second
	// Data that differ from the other members' are looked for at each start, and by
	// the leader after each compaction.
	if err := cfg.ServerFeatureGate.(featuregate.MutableFeatureGate).Set(gates); err != nil {
		return nil, fmt.Errorf("turn on checks of etcd: %w", err)
	}
	cfg.EnableGRPCGateway = false
	cfg.LogLevel = c.LogLevel
	cfg.LogOutputs = []string{embed.StdErrLogOutput}
	if c.LogFile != "" {
		cfg.LogOutputs = []string{c.LogFile}
		cfg.EnableLogRotation, cfg.LogRotationConfigJSON = true, logLimits
	}
	return cfg, c.secure(cfg)
}

// secure turns mutual TLS on. The files are loaded here once only to tell what
// is wrong with them; etcd loads them again for each connection, so that
// renewed certificates need no restart.
func (c MemberConfig) secure(cfg *embed.Config) error {
	if c.TLS == nil {
		return nil
	}
	if _, _, err := pki.Load(c.TLS.CA, c.TLS.Cert, c.TLS.Key); err != nil {
		return err
	}
	cfg.TlsMinVersion = "TLS1.3"
	cfg.ClientTLSInfo.TrustedCAFile, cfg.ClientTLSInfo.CertFile, cfg.ClientTLSInfo.KeyFile = c.TLS.CA, c.TLS.Cert, c.TLS.Key
	cfg.ClientTLSInfo.CRLFile = c.TLS.CRL // the peers' is a copy
	cfg.ClientTLSInfo.ClientCertAuth = true
	cfg.PeerTLSInfo = cfg.ClientTLSInfo
	// A host with several addresses may call from one that is not in its
	// certificate. The authority's signature is what counts; the caller still
	// checks the name of the member that it calls.
	cfg.PeerTLSInfo.SkipClientSANVerify = true
	return nil
}
