package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/internal/store"
)

// namedErr is an error with its name in the library.
type namedErr struct {
	name string
	err  error
}

// byKind lists every error of etcd under what it means for a write that may
// have reached a member.
func byKind() map[error][]namedErr {
	return map[error][]namedErr{
		store.ErrRetry: {
			{"ErrGRPCFutureRev", rpctypes.ErrGRPCFutureRev},
			{"ErrGRPCRequestTooManyRequests", rpctypes.ErrGRPCRequestTooManyRequests},
			{"ErrGRPCInvalidAuthToken", rpctypes.ErrGRPCInvalidAuthToken},
			{"ErrGRPCAuthOldRevision", rpctypes.ErrGRPCAuthOldRevision},
			{"ErrGRPCNoLeader", rpctypes.ErrGRPCNoLeader},
			{"ErrGRPCNotCapable", rpctypes.ErrGRPCNotCapable},
			{"ErrGRPCNotSupportedForLearner", rpctypes.ErrGRPCNotSupportedForLearner},
		},
		store.ErrUnknown: {
			{"ErrGRPCNoSpace", rpctypes.ErrGRPCNoSpace},
			{"ErrGRPCWatchCanceled", rpctypes.ErrGRPCWatchCanceled},
			{"ErrGRPCNotLeader", rpctypes.ErrGRPCNotLeader},
			{"ErrGRPCLeaderChanged", rpctypes.ErrGRPCLeaderChanged},
			{"ErrGRPCStopped", rpctypes.ErrGRPCStopped},
			{"ErrGRPCTimeout", rpctypes.ErrGRPCTimeout},
			{"ErrGRPCTimeoutDueToLeaderFail", rpctypes.ErrGRPCTimeoutDueToLeaderFail},
			{"ErrGRPCTimeoutDueToConnectionLost", rpctypes.ErrGRPCTimeoutDueToConnectionLost},
			{"ErrGRPCTimeoutWaitAppliedIndex", rpctypes.ErrGRPCTimeoutWaitAppliedIndex},
			{"ErrGRPCUnhealthy", rpctypes.ErrGRPCUnhealthy},
			{"ErrGRPCCanceled", rpctypes.ErrGRPCCanceled},
			{"ErrGRPCDeadlineExceeded", rpctypes.ErrGRPCDeadlineExceeded},
		},
		store.ErrCompacted: {
			{"ErrGRPCCompacted", rpctypes.ErrGRPCCompacted},
		},
		store.ErrDefinite: {
			{"ErrGRPCEmptyKey", rpctypes.ErrGRPCEmptyKey},
			{"ErrGRPCKeyNotFound", rpctypes.ErrGRPCKeyNotFound},
			{"ErrGRPCValueProvided", rpctypes.ErrGRPCValueProvided},
			{"ErrGRPCLeaseProvided", rpctypes.ErrGRPCLeaseProvided},
			{"ErrGRPCTooManyOps", rpctypes.ErrGRPCTooManyOps},
			{"ErrGRPCDuplicateKey", rpctypes.ErrGRPCDuplicateKey},
			{"ErrGRPCInvalidClientAPIVersion", rpctypes.ErrGRPCInvalidClientAPIVersion},
			{"ErrGRPCInvalidSortOption", rpctypes.ErrGRPCInvalidSortOption},
			{"ErrGRPCLeaseNotFound", rpctypes.ErrGRPCLeaseNotFound},
			{"ErrGRPCLeaseExist", rpctypes.ErrGRPCLeaseExist},
			{"ErrGRPCLeaseTTLTooLarge", rpctypes.ErrGRPCLeaseTTLTooLarge},
			{"ErrGRPCMemberExist", rpctypes.ErrGRPCMemberExist},
			{"ErrGRPCPeerURLExist", rpctypes.ErrGRPCPeerURLExist},
			{"ErrGRPCMemberNotEnoughStarted", rpctypes.ErrGRPCMemberNotEnoughStarted},
			{"ErrGRPCMemberBadURLs", rpctypes.ErrGRPCMemberBadURLs},
			{"ErrGRPCMemberNotFound", rpctypes.ErrGRPCMemberNotFound},
			{"ErrGRPCMemberNotLearner", rpctypes.ErrGRPCMemberNotLearner},
			{"ErrGRPCLearnerNotReady", rpctypes.ErrGRPCLearnerNotReady},
			{"ErrGRPCTooManyLearners", rpctypes.ErrGRPCTooManyLearners},
			{"ErrGRPCClusterIDMismatch", rpctypes.ErrGRPCClusterIDMismatch},
			{"ErrGRPCRequestTooLarge", rpctypes.ErrGRPCRequestTooLarge},
			{"ErrGRPCRootUserNotExist", rpctypes.ErrGRPCRootUserNotExist},
			{"ErrGRPCRootRoleNotExist", rpctypes.ErrGRPCRootRoleNotExist},
			{"ErrGRPCUserAlreadyExist", rpctypes.ErrGRPCUserAlreadyExist},
			{"ErrGRPCUserEmpty", rpctypes.ErrGRPCUserEmpty},
			{"ErrGRPCUserNotFound", rpctypes.ErrGRPCUserNotFound},
			{"ErrGRPCRoleAlreadyExist", rpctypes.ErrGRPCRoleAlreadyExist},
			{"ErrGRPCRoleNotFound", rpctypes.ErrGRPCRoleNotFound},
			{"ErrGRPCRoleEmpty", rpctypes.ErrGRPCRoleEmpty},
			{"ErrGRPCAuthFailed", rpctypes.ErrGRPCAuthFailed},
			{"ErrGRPCPermissionNotGiven", rpctypes.ErrGRPCPermissionNotGiven},
			{"ErrGRPCPermissionDenied", rpctypes.ErrGRPCPermissionDenied},
			{"ErrGRPCRoleNotGranted", rpctypes.ErrGRPCRoleNotGranted},
			{"ErrGRPCPermissionNotGranted", rpctypes.ErrGRPCPermissionNotGranted},
			{"ErrGRPCAuthNotEnabled", rpctypes.ErrGRPCAuthNotEnabled},
			{"ErrGRPCInvalidAuthMgmt", rpctypes.ErrGRPCInvalidAuthMgmt},
			{"ErrGRPCCorrupt", rpctypes.ErrGRPCCorrupt},
			{"ErrGRPCBadLeaderTransferee", rpctypes.ErrGRPCBadLeaderTransferee},
			{"ErrGRPCWrongDowngradeVersionFormat", rpctypes.ErrGRPCWrongDowngradeVersionFormat},
			{"ErrGRPCInvalidDowngradeTargetVersion", rpctypes.ErrGRPCInvalidDowngradeTargetVersion},
			{"ErrGRPCClusterVersionUnavailable", rpctypes.ErrGRPCClusterVersionUnavailable},
			{"ErrGRPCDowngradeInProcess", rpctypes.ErrGRPCDowngradeInProcess},
			{"ErrGRPCNoInflightDowngrade", rpctypes.ErrGRPCNoInflightDowngrade},
		},
	}
}

func kinds() []error {
	return []error{store.ErrRetry, store.ErrUnknown, store.ErrCompacted, store.ErrDefinite}
}

// expect checks that the error is classified as wanted for each call.
func expect(t *testing.T, name string, err, write error) {
	t.Helper()
	safe := write
	if write == store.ErrUnknown {
		safe = store.ErrRetry
	}
	for c, want := range map[call]error{writing: write, reading: safe, writeNotSent: safe} {
		got := classify(err, c)
		for _, k := range kinds() {
			if errors.Is(got, k) != (k == want) {
				t.Errorf("%s, call %d: got %v, want %v", name, c, got, want)
				break
			}
		}
		if !errors.Is(got, err) {
			t.Errorf("%s: the cause is lost in %v", name, got)
		}
	}
}

func TestClassifyEtcd(t *testing.T) {
	for kind, list := range byKind() {
		for _, e := range list {
			expect(t, e.name, e.err, kind)
			expect(t, e.name+" of the client", rpctypes.Error(e.err), kind)
		}
	}
	// As the server sends it: gRPC does not know the code of this one.
	expect(t, "too many requests", status.Error(codes.Unknown, rpctypes.ErrTooManyRequests.Error()), store.ErrRetry)
}

func TestClassifyKnowsAllOfEtcd(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "go.etcd.io/etcd/api/v3/v3rpc/rpctypes").Output()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "error.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{"ErrGRPCClusterIdMismatch": true} // the old name of ErrGRPCClusterIDMismatch
	for _, list := range byKind() {
		for _, e := range list {
			listed[e.name] = true
		}
	}
	found := 0
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, name := range spec.Names {
			if strings.HasPrefix(name.Name, "ErrGRPC") {
				found++
				if !listed[name.Name] {
					t.Errorf("%s is new: look at the server's sources and list it", name.Name)
				}
			}
		}
		return true
	})
	if found != len(listed) {
		t.Errorf("the library has %d errors, listed are %d", found, len(listed))
	}
}

func TestClassifyCodes(t *testing.T) {
	want := map[codes.Code]error{
		codes.Canceled:           store.ErrUnknown,
		codes.Unknown:            store.ErrUnknown,
		codes.InvalidArgument:    store.ErrDefinite,
		codes.DeadlineExceeded:   store.ErrUnknown,
		codes.NotFound:           store.ErrDefinite,
		codes.AlreadyExists:      store.ErrDefinite,
		codes.PermissionDenied:   store.ErrDefinite,
		codes.ResourceExhausted:  store.ErrUnknown,
		codes.FailedPrecondition: store.ErrDefinite,
		codes.Aborted:            store.ErrUnknown,
		codes.OutOfRange:         store.ErrDefinite,
		codes.Unimplemented:      store.ErrDefinite,
		codes.Internal:           store.ErrUnknown,
		codes.Unavailable:        store.ErrUnknown,
		codes.DataLoss:           store.ErrDefinite,
		codes.Unauthenticated:    store.ErrDefinite,
		codes.Code(99):           store.ErrUnknown,
	}
	for code, kind := range want {
		expect(t, code.String(), status.Error(code, "something new"), kind)
	}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		if _, ok := want[code]; !ok {
			t.Errorf("code %s is not checked", code)
		}
	}
}

func TestClassifyOthers(t *testing.T) {
	expect(t, "cancelled", context.Canceled, store.ErrUnknown)
	expect(t, "deadline", fmt.Errorf("wrapped: %w", context.DeadlineExceeded), store.ErrUnknown)
	expect(t, "no idea", errors.New("no idea"), store.ErrUnknown)
}

// TestAlarmsOf: members tell the alarms of all, each its own is one that a member that answers has told; no leader is none.
func TestAlarmsOf(t *testing.T) {
	all := []MemberStatus{
		{ID: 7, errors: []string{"etcdserver: no leader", "memberID:7 alarm:NOSPACE ", "memberID:18446744073709551615 alarm:CORRUPT "}},
		{ID: 18446744073709551615}, {ID: 9, errors: []string{"memberID:7 alarm:NOSPACE "}},
	}
	for i, want := range []string{"[NOSPACE]", "[CORRUPT]", "[]"} {
		if got := fmt.Sprint(alarmsOf(all[i].ID, all)); got != want {
			t.Errorf("member %d: %s, want %s", all[i].ID, got, want)
		}
	}
}
