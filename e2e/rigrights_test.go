package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/loop"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/pki"
	"holdfast/internal/lib/proc"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// limited is a laboratory with a host that runs guests only, the last one. No host is fenced in it, however
// busy the machine is.
const limited kind = "limited"

// mostMemory is what an agent or a member may have taken while it was asked for all that can be asked.
const mostMemory int64 = 300e6 // bytes

// letIn are the procedures that a host that runs guests only may call, by why an empty message does no harm.
// All others must be refused.
var letIn = map[string]string{
	"ClusterService/GetStatus":   "tells",
	"ClusterService/WatchStatus": "tells",
	"ClusterService/ListEvents":  "tells",
	"ClusterService/WatchEvents": "tells",
	"ClusterService/GetVersion":  "tells",
	"JobService/ListHosts":       "tells",
	"JobService/ListGuests":      "tells",
	"JobService/ListJobs":        "tells",
	"JobService/GetJob":          "tells",
	"UpgradeService/GetUpgrade":  "tells",
	"PairService/GetPair":        "tells, of a pair",

	"NotificationService/ListNotifications": "tells",

	"AgentService/GetBundle":       "tells",
	"AgentService/SignCertificate": "signs for the host that asks, and nothing without a request",
	"AgentService/GetCopy":         "of a pair, for the other node",
	"AgentService/GetRows":         "of a pair, for the other node",
	"AgentService/GetPeerStatus":   "of a pair, for the other node",
}

// SendGuest is let in, and refuses an empty message: what it has no right to is in the message.
const sendGuest = "AgentService/SendGuest"

// ran is a file of a host that exists when a program of the caller was run there.
const ran = "/run/forged"

// meant are calls that would change something, as JSON. A host that runs guests only must not make them.
func meant(self, other string) map[string][]string {
	key := `"idempotencyKey":"forged"`
	mine := `{"uuid":"2a7b8d53-7d0e-4f3c-9df1-4d8a1f9d1d11","name":"vm1","to":"` + self + `"}` // no job brings it
	managed := `{"uuid":"` + loop.GuestUUID("lab") + `","name":"mnvm","to":"` + self + `"}`
	return map[string][]string{
		"ClusterService/Start":             {"{" + key + "}"},
		"ClusterService/Stop":              {"{" + key + "}", "{" + key + `,"handsOff":true}`},
		"ClusterService/Migrate":           {"{" + key + `,"host":"` + other + `"}`},
		"ClusterService/CancelMigration":   {"{" + key + "}"},
		"ClusterService/ConfirmOff":        {"{" + key + `,"host":"` + other + `"}`, "{" + key + `,"host":"` + self + `"}`},
		"ClusterService/SetMaintenance":    {"{" + key + `,"host":"` + other + `","on":true}`, "{" + key + `,"host":"` + self + `","on":true}`},
		"ClusterService/ImportConfig":      {"{" + key + `,"name":"a.json","text":"{}"}`, `{"name":"a.json","text":"{}","check":true}`},
		"ClusterService/ResetPassword":     {`{"password":"forged"}`},
		"ClusterService/RenewCertificates": {`{"host":"` + other + `"}`},
		"JobService/CommandJob":            {`{"id":"forged","command":"abort"}`},
		"JobService/ForgetHost":            {`{"host":"` + other + `"}`},
		"JobService/DrainHost":             {`{"host":"` + other + `"}`},
		"UpgradeService/AdmitHost":         {`{"host":"` + other + `"}`},
		"PairService/ResolvePair":          {`{"keep":"` + other + `"}`},
		"AccessService/SetUser":            {`{"name":"thief","role":"admin","password":"forged forged forged"}`},
		"AccessService/RemoveUser":         {`{"name":"drill"}`},
		"AccessService/CreateToken":        {`{"name":"forged","role":"admin","days":1}`},
		"AccessService/RevokeToken":        {`{"id":"forged"}`},

		"NotificationService/TestNotification": {`{"name":"forged"}`},

		"HostService/GetHostLog":   {`{"host":"` + other + `"}`, `{"host":"` + self + `"}`},
		"HostService/TestFence":    {`{"host":"` + other + `"}`},
		"HostService/GetReport":    {`{"host":"` + other + `"}`, `{"host":"` + self + `"}`},
		"ScreenService/OpenScreen": {`{"guest":"mnvm"}`, `{"guest":"` + loop.GuestUUID("lab") + `"}`},
		"AgentService/ServeScreen": {`{"guest":"` + loop.GuestUUID("lab") + `"}`},
		"AgentService/GatherFacts": { // programs that the caller names, as root
			`{"request":{"status":{"run":["/bin/sh","-c","touch ` + ran + `"]}}}`, `{"request":{"config":[{"installed":"/srv/host/pki/h1.key"}]}}`,
		},
		sendGuest: {`{"uuid":"2a7b8d53-7d0e-4f3c-9df1-4d8a1f9d1d11","name":"vm1","to":"` + other + `"}`, mine, managed},
	}
}

// TestWhatACertificateMayDo asks a running cluster for everything that can be asked, with each kind of certificate that
// somebody may steal or make, and with none. docs/rights.md has the table.
func TestWhatACertificateMayDo(t *testing.T) {
	need.Drill(t, "P4: what a certificate gives no right to is refused, and changes nothing: of the API, the store, its pages and ports")
	onLab(t, limited, whatACertificateMayDo)
}

func whatACertificateMayDo(t testing.TB, r *rig) {
	st := r.healthy(t)
	was, watched := r.answer(t), r.watching(t)
	began := time.Now()
	hosts := r.lab.Hosts()
	members, thief := hosts[:3], hosts[3]
	own := r.shown(t, thief, r.pki(thief, thief+".pem"), r.pki(thief, thief+".key"))
	member := r.shown(t, "h1", r.pki("h1", "h1.pem"), r.pki("h1", "h1.key"))

	if _, err := member.store(t, "h1").Put(t.Context(),
		&pb.PutRequest{Key: []byte(storePrefix + userKey), Value: []byte(userKey)}); err != nil {
		t.Fatal(err)
	}
	before := r.kept(t, member)
	r.ports(t, members)
	for _, h := range members {
		r.strangers(t, h)
		r.forgedBeats(t, h)
		r.pages(t, own, h)
		r.console(t, own, h)
		r.everyProcedure(t, own, h, thief)
		r.everyCall(t, own, h)
		if path, err := r.lab.RootPath(h, ran); err != nil {
			t.Error(err)
		} else if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("on %s a program was run that a caller has named: %v", h, err)
		}
	}
	s := &raid{r: r, self: thief, kv: own.store(t, "h2"), as: own, member: member, secret: before["state/heartbeat"].Value}
	s.reads(t)
	s.writes(t, before)
	s.allowed(t)
	s.unchanged(t, before)

	for _, e := range r.events(t, began) {
		if !slices.Contains(s.told, e.Detail) || e.Kind != cluster.EvWant || string(e.By) != thief || e.User != "" {
			t.Errorf("in the log: %+v", e)
		}
	}
	r.memory(t)
	now, is := r.healthy(t), r.answer(t)
	if is.Boot != was.Boot || is.N <= was.N || now.Owner.Epoch != st.Owner.Epoch || now.Owner.Host != st.Owner.Host {
		t.Errorf("the management VM was %+v of %+v, is %+v of %+v", was, st.Owner, is, now.Owner)
	}
	w := watched()
	w.oneHolder(t)
	t.Logf("longest outage, of pings: %s", longest(w)) // what others do on this machine is in it
}

// userKey is a user of the console, whose record only members may see.
const userKey = records.KeyAccess + "user/drill"

// pki is a file of a host's certificates, as this machine sees it.
func (r *rig) pki(h, file string) string { return r.lab.HostPath(h, "pki", file) }

// showing is who asks: what is shown is a certificate.
type showing struct {
	r    *rig
	name string
	tls  *tls.Config
}

func (r *rig) shown(t testing.TB, name, cert, key string) showing {
	t.Helper()
	_, client, err := pki.Load(r.pki(r.lab.Hosts()[0], "ca.pem"), cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return showing{r, name, client}
}

func (s showing) at(h string, port int) string {
	return net.JoinHostPort(s.r.lab.Addr(h).String(), strconv.Itoa(port))
}

// dial prepares calls: agents answer gRPC, too.
func (s showing) dial(t testing.TB, h string, port int) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+s.at(h, port), grpc.WithTransportCredentials(credentials.NewTLS(s.tls.Clone())),
		grpc.WithContextDialer(func(ctx context.Context, at string) (net.Conn, error) { return s.r.lab.Dial(ctx, "tcp", at) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// askFor is how long a call may take. A stream that lasts so long was let in.
const askFor = 3 * time.Second

// oneCall sends one message, and returns why there is no answer.
func oneCall(ctx context.Context, c *grpc.ClientConn, m protoreflect.MethodDescriptor, req proto.Message) error {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, procedure(m))
	if err != nil {
		return err
	}
	if err := s.SendMsg(req); err != nil && err != io.EOF { // at the end the answer says why
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.RecvMsg(dynamicpb.NewMessage(m.Output())); err != io.EOF {
		return err
	}
	return nil
}

func procedure(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

// procedures are all of the packages that this program knows, in order.
func procedures(packages ...protoreflect.FullName) (all []protoreflect.MethodDescriptor) {
	for _, p := range packages {
		protoregistry.GlobalFiles.RangeFilesByPackage(p, func(f protoreflect.FileDescriptor) bool {
			for i := range f.Services().Len() {
				for j, s := 0, f.Services().Get(i); j < s.Methods().Len(); j++ {
					all = append(all, s.Methods().Get(j))
				}
			}
			return true
		})
	}
	slices.SortFunc(all, func(a, b protoreflect.MethodDescriptor) int { return strings.Compare(procedure(a), procedure(b)) })
	return all
}

// everyProcedure tries the API of a member's agent.
func (r *rig) everyProcedure(t testing.TB, own showing, h, self string) {
	t.Helper()
	c := own.dial(t, h, lab.APIPort)
	messages := meant(self, "h2")
	all := procedures("holdfast.v1")
	if len(all) < 40 {
		t.Fatalf("the API has %d procedures", len(all))
	}
	for _, m := range all {
		name := strings.TrimPrefix(procedure(m), "/holdfast.v1.")
		err := oneCall(t.Context(), c, m, dynamicpb.NewMessage(m.Input()))
		if refused := status.Code(err) == codes.PermissionDenied; refused == (letIn[name] != "") {
			t.Errorf("%s of %s, with an empty message: %v; let in: %q", name, h, err, letIn[name])
		}
		for _, text := range messages[name] {
			req := dynamicpb.NewMessage(m.Input())
			if err := protojson.Unmarshal([]byte(text), req); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := oneCall(t.Context(), c, m, req); status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s of %s, %s: %v", name, h, text, err)
			}
		}
		code := own.zeros(t, h, lab.APIPort, procedure(m))
		if (letIn[name] == "" && name != sendGuest && code != codes.PermissionDenied) || code == codes.OK {
			t.Errorf("%s of %s, with a body that unpacks to %d MiB: %v", name, h, zeroMiB, code)
		}
	}
	for name := range letIn {
		if !slices.ContainsFunc(all, func(m protoreflect.MethodDescriptor) bool { return procedure(m) == "/holdfast.v1."+name }) {
			t.Errorf("%s is no procedure of the API", name)
		}
	}
}

// zeroMiB is what a body of 64 KiB unpacks to.
const zeroMiB = 64

// packedZeros is the body of a call: one packed message of zeros.
var packedZeros = sync.OnceValues(func() ([]byte, error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for range zeroMiB {
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return append(binary.BigEndian.AppendUint32([]byte{1}, uint32(packed.Len())), packed.Bytes()...), err
})

// zeros makes a call with packedZeros, and returns its end.
func (s showing) zeros(t testing.TB, h string, port int, path string) codes.Code {
	t.Helper()
	body, err := packedZeros()
	if err != nil {
		t.Fatal(err)
	}
	resp, _ := s.http(t, http.MethodPost, "https://"+s.at(h, port)+path, true, body)
	said := resp.Trailer.Get("Grpc-Status") + resp.Header.Get("Grpc-Status")
	code, err := strconv.Atoi(said)
	if err != nil {
		t.Errorf("%s of %s: no status of gRPC: %s %q", path, h, resp.Status, said)
	}
	return codes.Code(code)
}

// http makes a request of its own connection, a call of gRPC or another one, and returns the answer with its body.
func (s showing) http(t testing.TB, method, url string, call bool, body []byte) (*http.Response, string) {
	t.Helper()
	var conn net.Conn
	defer func() { // whose call was answered early is not idle yet, and one host has few connections
		if conn != nil {
			conn.Close()
		}
	}()
	return s.ask(t, s.transport(&conn), method, url, call, body)
}

// transport keeps its connection, which it notes. All go by HTTP/2: a member of the store speaks nothing else.
func (s showing) transport(conn *net.Conn) *http.Transport {
	dial := func(ctx context.Context, network, at string) (net.Conn, error) {
		c, err := s.r.lab.Dial(ctx, network, at)
		if err == nil {
			*conn = c
		}
		return c, err
	}
	return &http.Transport{DialContext: dial, TLSClientConfig: s.tls.Clone(), ForceAttemptHTTP2: true}
}

// ask makes a request, and returns the answer with its body.
func (s showing) ask(t testing.TB, tr *http.Transport, method, url string, call bool, body []byte) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*askFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if call {
		req.Header.Set("Content-Type", "application/grpc+proto")
		req.Header.Set("Grpc-Encoding", "gzip")
		req.Header.Set("Te", "trailers")
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Logf("%s %s: %v", method, url, err)
	}
	return resp, string(text)
}

// memory wants agents and members to have stayed small.
func (r *rig) memory(t testing.TB) {
	t.Helper()
	for _, h := range r.lab.Hosts() {
		for _, p := range r.ours(t, h) {
			most, err := peakMemory(filepath.Join("/proc", strconv.Itoa(p.pid), "status"))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %s has had %d MB", h, p.args, most/1e6)
			if most >= mostMemory {
				t.Errorf("%s: %s has had %d MB, want less than %d", h, p.args, most/1e6, mostMemory/1e6)
			}
		}
	}
}

// peakMemory is the most memory that a process has had, bytes, by the file status of its folder in /proc.
func peakMemory(status string) (int64, error) {
	text, err := os.ReadFile(status)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "\nVmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read VmHWM of %s: %w", status, err)
	}
	return kib << 10, nil
}

// process of the product on a host.
type process struct {
	pid  int // as this machine sees it
	args string
}

// ours are those of the product on a host.
func (r *rig) ours(t testing.TB, h string) (all []process) {
	t.Helper()
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", r.init(t, h)))
	if err != nil {
		t.Fatal(err)
	}
	pids, err := proc.Here.PIDs()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil || ns != space {
			continue // it may have ended
		}
		args, err := proc.Here.Args(pid)
		if err != nil || len(args) < 2 || filepath.Base(args[0]) != "holdfast" {
			continue
		}
		all = append(all, process{pid, strings.Join(args[1:], " ")})
	}
	if len(all) == 0 {
		t.Errorf("%s has no process of the product", h)
	}
	return all
}

// init is the first process of a host, as this machine sees it.
func (r *rig) init(t testing.TB, h string) int {
	t.Helper()
	st, err := r.lab.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(st.Hosts, func(x lab.HostStatus) bool { return x.Name == h })
	return st.Hosts[i].PID
}
