package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
)

// moving are records that their hosts write all the time, by the beginnings of their keys.
func moving() []string { return []string{records.KeyHosts, "fleet/", "state/pair/"} }

// store prepares calls to a member of the store.
func (s showing) store(t testing.TB, h string) pb.KVClient {
	t.Helper()
	return pb.NewKVClient(s.dial(t, h, clientPort))
}

// kept is all that the store has, by keys without the prefix.
func (r *rig) kept(t testing.TB, member showing) map[string]*mvccpb.KeyValue {
	t.Helper()
	resp, err := member.store(t, "h1").Range(t.Context(), &pb.RangeRequest{Key: []byte(storePrefix), RangeEnd: []byte("/holdfast/lab0")})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*mvccpb.KeyValue{}
	for _, kv := range resp.GetKvs() {
		all[strings.TrimPrefix(string(kv.GetKey()), storePrefix)] = kv
	}
	if len(all["state/heartbeat"].GetValue()) == 0 {
		t.Fatalf("no secret of the heartbeats among %d keys", len(all))
	}
	return all
}

// raid is what somebody does to the store with the certificate of a host that runs guests only.
type raid struct {
	r      *rig
	self   string
	kv     pb.KVClient
	as     showing
	member showing
	secret []byte
	told   []string // in the log, with right
}

// denied wants that a call has no right.
func (s *raid) denied(t testing.TB, what string, err error) {
	t.Helper()
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("%s: %v", what, err)
	}
}

// forNow reports that a write was refused by its host's bounds, which come before its rights.
func forNow(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "refused for now")
}

func put(key string, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(storePrefix + key), Value: value}}}
}

func del(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(storePrefix + key)}}}
}

// unlessChanged is the condition that a key has a revision; 0: it is not there.
func unlessChanged(key string, rev int64) []*pb.Compare {
	return []*pb.Compare{{
		Key: []byte(storePrefix + key), Target: pb.Compare_MOD, Result: pb.Compare_EQUAL, TargetUnion: &pb.Compare_ModRevision{ModRevision: rev},
	}}
}

func (s *raid) txn(t testing.TB, conds []*pb.Compare, ops ...*pb.RequestOp) (*pb.TxnResponse, error) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 4*askFor)
		got, err := s.kv.Txn(ctx, &pb.TxnRequest{Compare: conds, Success: ops})
		cancel()
		if !forNow(err) || len(ops[0].GetRequestPut().GetValue()) >= large || t.Context().Err() != nil {
			return got, err
		}
		time.Sleep(askFor / 20) // what the host may write comes back with time, for a large value only in a minute
	}
}

// reads tries to read the secret, users, and what is no record of the cluster.
func (s *raid) reads(t testing.TB) {
	t.Helper()
	key, ctx := storePrefix+records.KeyBeat, t.Context()
	rev := s.r.kept(t, s.member)[records.KeyBeat].GetModRevision()
	for what, r := range map[string]*pb.RangeRequest{
		"the secret":             {Key: []byte(key)},
		"the secret, as it was":  {Key: []byte(key), Revision: rev},
		"the secret, serialized": {Key: []byte(key), Serializable: true},
		"state/":                 {Key: []byte(storePrefix + "state/"), RangeEnd: []byte(storePrefix + "state0")},
		"a user":                 {Key: []byte(storePrefix + userKey)},
		"users":                  {Key: []byte(storePrefix + records.KeyAccess), RangeEnd: []byte(storePrefix + "access0")},
		"users' keys":            {Key: []byte(storePrefix + "a"), RangeEnd: []byte(storePrefix + "b"), KeysOnly: true},
		"all": {Key: []byte(storePrefix), RangeEnd: []byte("/holdfast/lab0"),
			SortOrder: pb.RangeRequest_DESCEND, SortTarget: pb.RangeRequest_MOD},
		"all, by its revision": {Key: []byte(storePrefix), RangeEnd: []byte("/holdfast/lab0"), MinModRevision: rev, MaxModRevision: rev},
	} {
		resp, err := s.kv.Range(ctx, r)
		if err != nil && status.Code(err) != codes.OutOfRange { // the revision is gone
			t.Errorf("read %s: %v", what, err)
		}
		for _, kv := range resp.GetKvs() {
			if string(kv.GetKey()) == key || bytes.Contains(kv.GetValue(), s.secret) ||
				strings.HasPrefix(string(kv.GetKey()), storePrefix+records.KeyAccess) {
				t.Errorf("read %s: it has %s", what, kv.GetKey())
			}
		}
	}
	for what, r := range map[string]*pb.RangeRequest{
		"by values": {Key: []byte(storePrefix), RangeEnd: []byte("/holdfast/lab0"),
			SortOrder: pb.RangeRequest_ASCEND, SortTarget: pb.RangeRequest_VALUE},
		"without an end":  {Key: []byte(storePrefix), RangeEnd: []byte{0}},
		"everything":      {Key: []byte{0}, RangeEnd: []byte{0}},
		"other clusters":  {Key: []byte("/holdfast/"), RangeEnd: []byte("/holdfast0")},
		"another cluster": {Key: []byte("/holdfast/other/x")},
		"another's key":   {Key: []byte("x")},
		"too far":         {Key: []byte(storePrefix), RangeEnd: []byte("/holdfast/lab1")},
	} {
		_, err := s.kv.Range(ctx, r)
		s.denied(t, "read "+what, err)
	}
	for what, w := range map[string]*pb.WatchCreateRequest{
		"the secret": {Key: []byte(key), StartRevision: rev}, "one key": {Key: []byte(key), RangeEnd: append([]byte(key), 0)},
		"all": {Key: []byte(storePrefix), RangeEnd: []byte("/holdfast/lab0"), PrevKv: true}, "everything": {Key: []byte{0}, RangeEnd: []byte{0}},
		"another's": {Key: []byte("x")},
	} {
		s.denied(t, "watch "+what, s.watch(ctx, t, w))
	}
}

// watch returns why a watch has ended.
func (s *raid) watch(ctx context.Context, t testing.TB, w *pb.WatchCreateRequest) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	ws, err := pb.NewWatchClient(s.as.dial(t, "h2", clientPort)).Watch(ctx)
	if err != nil {
		return err
	}
	if err := ws.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: w}}); err != nil {
		return err
	}
	for {
		got, err := ws.Recv()
		if err != nil {
			return err
		}
		for _, e := range got.GetEvents() {
			t.Errorf("watch %q: %s", w.GetKey(), e.GetKv().GetKey())
		}
	}
}

// forged is in the values that nobody may find in the store later.
const forged = "forged-by-a-drill"

// large is the size of a value that takes most of what a host may write at once.
const large = 900 << 10

// kinds are keys of every kind of record, beside those that the cluster has. Each must be refused, whatever the value.
func (s *raid) kinds() (keys []string) {
	for _, k := range []string{
		"state/owner/mnvm", "state/owner/x", "state/coordinator", "state/config", "state/generation", "state/heartbeat", "state/booted/mnvm",
		"state/left/x", "state/progress/mnvm", "state/hosts/h1", "state/hosts/h2", "state/hosts/SELF", "state/hosts/x", "state/pair/sync",
		"state/pair/copy/SELF", "state/pair/node/SELF", "state/x", "state", "",
		"job/run/upgrade", "job/run/drain", "job/old/x", "job/plan/x/0000", "job/step/x/SELF", "job/step/x/y",
		"job/step/", "job/todo/SELF/upgrade",
		"job/todo/h1/upgrade", "job/waits/upgrade", "job/codes/upgrade", "job/x", "upgrade/state", "upgrade/platform/x",
		"fleet/h1", "fleet/x", "fleet/SELF/x",
		userKey, "access/user/thief", "access/token/thief", "access/session/x", "access/",
		"fleet/", "fleet-apart", "fleet-apart/x", "fleet-carry/h1/x/y", "fleet-carry/h1", "fleet-carry/",
		"config/0000000001", "config/0000000099", "config/x", "care/x", "care/SELF", "requests/" + strings.Repeat("x", 65), "requests/",
		"upgrade-probe/x/SELF", "upgrade-probe/x/h1", "upgrade-probe/x/plan", "upgrade-probe/x/plan/y/z",
		"upgrade-probe/x/time/passed", "upgrade-probe/x/base/SELF",
		"upgrade-probe/x/base/h1", "upgrade-probe/addr/h1", "upgrade-probe/addr/plan", "upgrade-probe/", "log/x", "log/00000000000000000001-h1-1",
		"../other/x", "x",
	} {
		keys = append(keys, strings.ReplaceAll(k, "SELF", s.self))
	}
	return keys
}

// writes tries to write and to delete every kind of record, in each form that a request can have.
func (s *raid) writes(t testing.TB, before map[string]*mvccpb.KeyValue) {
	t.Helper()
	keys := map[string]bool{}
	for _, k := range slices.Concat(s.kinds(), slices.Collect(maps.Keys(before))) {
		keys[k] = true
	}
	much := append([]byte(forged), bytes.Repeat([]byte("x"), large)...)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		was := before[k]
		changed := slices.Concat(was.GetValue(), []byte(" "+forged))
		for what, value := range map[string][]byte{"text": []byte(forged), "JSON": []byte(`{"x":"` + forged + `"}`),
			"a changed value": changed, "0.9 MB": much} {
			_, err := s.txn(t, nil, put(k, value))
			if what != "0.9 MB" || !forNow(err) {
				s.denied(t, "write "+what+" to "+k, err)
			}
			// A condition that does not hold ends the write as well; those records move.
			got, err := s.txn(t, unlessChanged(k, was.GetModRevision()), put(k, value))
			if status.Code(err) != codes.PermissionDenied && (err != nil || got.GetSucceeded()) && (what != "0.9 MB" || !forNow(err)) {
				t.Errorf("write %s to %s at its revision: %v, %v", what, k, got, err)
			}
		}
		_, err := s.txn(t, nil, del(k))
		s.denied(t, "delete "+k, err)
		_, err = s.txn(t, unlessChanged("state/owner/mnvm", before["state/owner/mnvm"].GetModRevision()), del(k))
		s.denied(t, "delete "+k+" under a condition", err)
		_, err = s.kv.Put(t.Context(), &pb.PutRequest{Key: []byte(storePrefix + k), Value: []byte(forged)})
		s.denied(t, "put "+k, err)
		_, err = s.kv.DeleteRange(t.Context(), &pb.DeleteRangeRequest{Key: []byte(storePrefix + k)})
		s.denied(t, "delete range "+k, err)
	}
	s.forms(t)
	s.meant(t, before)
}

// forms are transactions that no host has a use for, about keys that it may write.
func (s *raid) forms(t testing.TB) {
	t.Helper()
	own := put("requests/forged", []byte(time.Now().UTC().Format(time.RFC3339)))
	of := func(change func(*pb.TxnRequest)) *pb.TxnRequest {
		r := &pb.TxnRequest{Success: []*pb.RequestOp{own}}
		change(r)
		return r
	}
	lease := put("requests/forged", []byte("x"))
	lease.GetRequestPut().Lease = 1
	previous := put("requests/forged", []byte("x"))
	previous.GetRequestPut().PrevKv = true
	span := del("requests/")
	span.GetRequestDeleteRange().RangeEnd = []byte(storePrefix + "requests0")
	outside := put("", []byte("x"))
	outside.GetRequestPut().Key = []byte("/holdfast/other/x")
	nowhere := put("", []byte("x"))
	nowhere.GetRequestPut().Key = []byte("x")
	secret := unlessChanged(records.KeyBeat, 0)
	secret[0].Target, secret[0].TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: []byte("x")}
	secret[0].Result = pb.Compare_GREATER
	for what, r := range map[string]*pb.TxnRequest{
		"otherwise":       of(func(r *pb.TxnRequest) { r.Success, r.Failure = nil, r.Success }),
		"a lease":         of(func(r *pb.TxnRequest) { r.Success = []*pb.RequestOp{lease} }),
		"what was there":  of(func(r *pb.TxnRequest) { r.Success = []*pb.RequestOp{previous} }),
		"a range":         of(func(r *pb.TxnRequest) { r.Success = []*pb.RequestOp{span} }),
		"another cluster": of(func(r *pb.TxnRequest) { r.Success = []*pb.RequestOp{outside} }),
		"another's key":   of(func(r *pb.TxnRequest) { r.Success = []*pb.RequestOp{own, nowhere} }),
		"beside a key of its own": of(func(r *pb.TxnRequest) {
			r.Success = append(r.Success, put("state/owner/mnvm", []byte(forged)))
		}),
		"a guess of the secret": of(func(r *pb.TxnRequest) { r.Compare = secret }),
		"a read": of(func(r *pb.TxnRequest) {
			read := &pb.RangeRequest{Key: []byte(storePrefix + records.KeyBeat)}
			r.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{RequestRange: read}}}
		}),
		"one within another": of(func(r *pb.TxnRequest) {
			inner := &pb.TxnRequest{Success: []*pb.RequestOp{put("state/owner/mnvm", []byte(forged))}}
			r.Success = []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: inner}}}
		}),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 4*askFor)
		_, err := s.kv.Txn(ctx, r)
		cancel()
		s.denied(t, "a transaction with "+what, err)
	}
}

// meant are writes of the right form to keys that the host writes, which say what it has no right to say.
func (s *raid) meant(t testing.TB, before map[string]*mvccpb.KeyValue) {
	t.Helper()
	self := cluster.HostID(s.self)
	wantKey := records.WantKey(cluster.MgmtVM)
	kv := before[wantKey]
	for what, change := range map[string]func(*cluster.Want){
		"stop": func(w *cluster.Want) { w.Run = !w.Run }, "hands off": func(w *cluster.Want) { w.HandsOff = true },
		"move": func(w *cluster.Want) { w.MoveTo = "h3" }, "cancel": func(w *cluster.Want) { w.Cancel = 1 },
		"off":                 func(w *cluster.Want) { w.Off = append(w.Off, cluster.Off{Host: "h2", User: "root"}) },
		"rest":                func(w *cluster.Want) { w.SetMaintenance("h2", true) },
		"rest beside its own": func(w *cluster.Want) { w.SetMaintenance(self, true); w.SetMaintenance("h1", true) },
	} {
		want := s.want(t, kv.GetValue())
		change(&want)
		for _, conds := range [][]*pb.Compare{nil, unlessChanged(wantKey, kv.GetModRevision()),
			unlessChanged(wantKey, kv.GetModRevision()+1_000_000)} {
			_, err := s.txn(t, conds, put(wantKey, records.Encode(want)))
			s.denied(t, "ask to "+what, err)
		}
	}
	now := time.Now()
	rests := string(self) + " in maintenance"
	for what, e := range map[string]cluster.Event{
		"another's name": {Time: now, Kind: cluster.EvWant, By: "h1", Resource: cluster.MgmtVM, Detail: rests},
		"root":           {Time: now, Kind: cluster.EvWant, By: self, Resource: cluster.MgmtVM, User: "root", Detail: rests},
		"root, h2 off": {Time: now, Kind: cluster.EvWant, By: self, Resource: cluster.MgmtVM, User: "root",
			Detail: "confirmed that h2 is off"},
		"h2 off":               {Time: now, Kind: cluster.EvWant, By: self, Resource: cluster.MgmtVM, Detail: "confirmed that h2 is off"},
		"another maintenance":  {Time: now, Kind: cluster.EvWant, By: self, Resource: cluster.MgmtVM, Detail: "h2 in maintenance"},
		"a takeover":           {Time: now, Kind: cluster.EvTakeover, By: self, Resource: cluster.MgmtVM, Host: "h1", To: "h2", Detail: rests},
		"more than it has":     {Time: now, Kind: cluster.EvWant, By: self, Resource: cluster.MgmtVM, Host: "h1", Detail: rests},
		"what is not readable": {Time: now, Kind: cluster.EvWant, By: self, Resource: cluster.MgmtVM, Detail: "\x1b[2J" + forged},
	} {
		for seq, by := range []cluster.HostID{e.By, self} {
			k := e
			k.By = by
			_, err := s.txn(t, nil, put(records.LogKey(k, uint64(seq)), records.Encode(e)))
			s.denied(t, "say in the log: "+what, err)
		}
	}
	other, err := json.Marshal(map[string]any{"host": map[string]string{"name": "h1"}, "addr": "10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	carry := func(from string) []byte {
		return fmt.Appendf(nil, `{"uuid":%q,"name":"x","from":%q,"start":true}`, forged, from)
	}
	for k, value := range map[string][]byte{
		"fleet/" + s.self:          before["fleet/h1"].GetValue(),
		"fleet/h1":                 other,
		"fleet-carry/h1/" + forged: carry("h2"),
		"fleet-carry/h1/" + strings.Repeat("x", 100<<10): carry(s.self),
		"fleet-carry/h1/" + forged + "2":                 append(carry(s.self), bytes.Repeat([]byte(" "), 2<<10)...),
		"requests/forged":                                []byte(forged),
	} {
		_, err := s.txn(t, nil, put(k, value))
		s.denied(t, "write "+k, err)
	}
}

func (s *raid) want(t testing.TB, value []byte) cluster.Want {
	t.Helper()
	text, err := records.Unseal(value)
	var w cluster.Want
	if err == nil {
		err = json.Unmarshal(text, &w)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// allowed is what the host writes with right, so that what was refused was refused for its own reason. All of it is undone.
func (s *raid) allowed(t testing.TB) {
	t.Helper()
	may := func(what string, conds []*pb.Compare, ops ...*pb.RequestOp) {
		t.Helper()
		if got, err := s.txn(t, conds, ops...); err != nil || !got.GetSucceeded() {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	self := cluster.HostID(s.self)
	key := records.WantKey(cluster.MgmtVM)
	for _, on := range []bool{true, false} {
		kv := s.r.kept(t, s.member)[key]
		w := s.want(t, kv.GetValue())
		w.SetMaintenance(self, on)
		_, err := s.txn(t, unlessChanged(key, kv.GetModRevision()), put(key, records.Encode(w)))
		s.denied(t, "its own maintenance without a word in the log", err)
		e := cluster.Event{Time: time.Now(), Kind: cluster.EvWant, By: self, Resource: cluster.MgmtVM,
			Detail: s.self + map[bool]string{true: " in maintenance", false: " out of maintenance"}[on]}
		may("its own maintenance", unlessChanged(key, kv.GetModRevision()), put(key, records.Encode(w)),
			put(records.LogKey(e, 1), records.Encode(e)))
		s.told = append(s.told, e.Detail)
	}
	kv := s.r.kept(t, s.member)["fleet/"+s.self]
	may("its own report", nil, put("fleet/"+s.self, kv.GetValue()))
	request := "requests/drill-1"
	may("its own request", unlessChanged(request, 0), put(request, []byte(time.Now().UTC().Format(time.RFC3339))))
	_, err := s.txn(t, nil, put(request, []byte(time.Now().UTC().Format(time.RFC3339))))
	s.denied(t, "a request that was carried out, again", err)
	_, err = s.txn(t, nil, del(request))
	s.denied(t, "delete a request that was carried out", err)
	may("the addresses of its guests", nil, put("upgrade-probe/addr/"+s.self, []byte(`{}`)))
	_, err = s.txn(t, nil, put("fleet-carry/h1/drill", fmt.Appendf(nil, `{"uuid":"drill","name":"x","from":%q,"autostart":true}`, s.self)))
	s.denied(t, "a word about a guest that no job has leave it", err)
	may("a word about a guest that it has not", nil, del("fleet-carry/"+s.self+"/drill"))
}

// unchanged compares the store with what it was.
func (s *raid) unchanged(t testing.TB, before map[string]*mvccpb.KeyValue) {
	t.Helper()
	written := []string{records.WantKey(cluster.MgmtVM), "requests/drill-1", "upgrade-probe/addr/" + s.self}
	after := s.r.kept(t, s.member)
	is := func(k string) bool {
		_, by, logged := strings.Cut(k, "-"+s.self+"-")
		return slices.Contains(written, k) || logged && by == "1" && strings.HasPrefix(k, records.KeyLog) ||
			slices.ContainsFunc(moving(), func(p string) bool { return strings.HasPrefix(k, p) })
	}
	for k, kv := range after {
		switch was := before[k]; {
		case bytes.Contains(kv.GetValue(), []byte(forged)), strings.Contains(k, "forged"):
			t.Errorf("%s has what was forged: %.100q", k, kv.GetValue())
		case is(k):
		case was == nil:
			t.Errorf("%s is new: %.100q", k, kv.GetValue())
		case was.GetModRevision() != kv.GetModRevision():
			t.Errorf("%s was %.200q, is %.200q", k, was.GetValue(), kv.GetValue())
		}
	}
	for k := range before {
		if after[k] == nil {
			t.Errorf("%s is gone", k)
		}
	}
	if was, w := s.want(t, before[written[0]].GetValue()), s.want(t, after[written[0]].GetValue()); fmt.Sprint(was) != fmt.Sprint(w) {
		t.Errorf("what is asked for was %+v, is %+v", was, w)
	}
}
