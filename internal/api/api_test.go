package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/fail"
)

// filler sets every field of a value to something that is not zero and differs
// from field to field.
type filler struct{ n int }

func (f *filler) fill(t *testing.T, v reflect.Value) {
	t.Helper()
	f.n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(int64(f.n), int64(f.n)).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(t, v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(t, v.Index(i))
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", f.n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(f.n))
	case reflect.Uint64:
		v.SetUint(uint64(f.n))
	case reflect.Float64:
		v.SetFloat(float64(f.n) / 8)
	default:
		t.Fatalf("no filling for %s: teach the test", v.Type())
	}
}

// complete fails when a field of a message, at any depth, is not set: then no
// domain field is behind it.
func complete(t *testing.T, m protoreflect.Message) {
	t.Helper()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) {
			t.Errorf("%s is not set from the domain type", fd.FullName())
			continue
		}
		switch {
		case fd.IsList() && fd.Message() != nil:
			for j := range m.Get(fd).List().Len() {
				complete(t, m.Get(fd).List().Get(j).Message())
			}
		case fd.Message() != nil:
			complete(t, m.Get(fd).Message())
		}
	}
}

// overWire packs and unpacks a message.
func overWire[M proto.Message](t *testing.T, m, into M) M {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
	return into
}

func TestRoundTrip(t *testing.T) {
	var f filler
	t.Run("status", func(t *testing.T) {
		var want cluster.Status
		f.fill(t, reflect.ValueOf(&want).Elem())
		m := StatusToProto(want)
		complete(t, m.ProtoReflect())
		if got := StatusFromProto(overWire(t, m, &apiv1.Status{})); !reflect.DeepEqual(got, want) {
			t.Errorf("status changed on the way:\n got %+v\nwant %+v", got, want)
		}
	})
	t.Run("events", func(t *testing.T) {
		want := make([]cluster.Event, 2)
		for i := range want {
			f.fill(t, reflect.ValueOf(&want[i]).Elem())
		}
		m := &apiv1.ListEventsResponse{Events: EventsToProto(want), Next: 1}
		complete(t, m.ProtoReflect())
		if got := eventsFromProto(overWire(t, m, &apiv1.ListEventsResponse{}).Events); !reflect.DeepEqual(got, want) {
			t.Errorf("events changed on the way:\n got %+v\nwant %+v", got, want)
		}
	})
	t.Run("progress", func(t *testing.T) {
		var want Progress
		f.fill(t, reflect.ValueOf(&want).Elem())
		m := ProgressToProto(want)
		complete(t, m.ProtoReflect())
		if got := progressFromProto(overWire(t, m, &apiv1.MigrateResponse{})); got != want {
			t.Errorf("progress changed on the way:\n got %+v\nwant %+v", got, want)
		}
	})
}

func TestRoundTripOfNothing(t *testing.T) {
	if got := StatusFromProto(StatusToProto(cluster.Status{})); !reflect.DeepEqual(got, cluster.Status{}) {
		t.Errorf("empty status became %+v", got)
	}
	if got := StatusFromProto(nil); !reflect.DeepEqual(got, cluster.Status{}) {
		t.Errorf("absent status became %+v", got)
	}
}

func TestTextThatIsNotUTF8(t *testing.T) {
	m := StatusToProto(cluster.Status{StoreError: "disk \xff full"})
	if got, want := overWire(t, m, &apiv1.Status{}).StoreError, "disk \uFFFD full"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKinds(t *testing.T) {
	exits := map[fail.Kind]int{
		fail.Failed: 1, fail.Unknown: 1, fail.Invalid: 2, fail.Refused: 3,
		fail.Unavailable: 4, fail.Timeout: 1, fail.Canceled: 1, fail.Denied: 1,
	}
	if len(codes()) != len(exits) {
		t.Fatalf("the table has %d rows, the test knows %d", len(codes()), len(exits))
	}
	seen := map[connect.Code]bool{}
	for kind, exit := range exits {
		if seen[CodeOf(kind)] {
			t.Errorf("%s shares the code %s", kind, CodeOf(kind))
		}
		seen[CodeOf(kind)] = true
		if got := KindOf(CodeOf(kind)); got != kind {
			t.Errorf("%s comes back from %s as %s", kind, CodeOf(kind), got)
		}
		if got := fail.ExitCode(fmt.Errorf("outer: %w", fail.Errorf(kind, "x"))); got != exit {
			t.Errorf("%s exits with %d, want %d", kind, got, exit)
		}
	}
	if got := KindOf(connect.CodeDataLoss); got != fail.Failed {
		t.Errorf("a code without a row is %s, want %s", got, fail.Failed)
	}
	if got := fail.ExitCode(nil); got != fail.ExitDone {
		t.Errorf("no error exits with %d", got)
	}
	if got := fail.ExitCode(errors.New("x")); got != fail.ExitFailed {
		t.Errorf("a plain error exits with %d", got)
	}
}

func TestDialRefusesTargets(t *testing.T) {
	for _, target := range []string{"", "unix:", "http://10.0.0.1", "https://", "https://10.0.0.1/x", "10.0.0.1:7443", "https://10.0.0.1"} {
		_, err := Dial(target, nil)
		var e *fail.Error
		if !errors.As(err, &e) || e.Kind != fail.Invalid {
			t.Errorf("Dial(%q) = %v, want an error of kind %s", target, err, fail.Invalid)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.sock")
	c, err := Dial("unix:"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = c.Status(ctx)
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Unavailable {
		t.Fatalf("got %v, want an error of kind %s", err, fail.Unavailable)
	}
	if !strings.Contains(e.Message, path) || !strings.Contains(e.Remedy, "systemctl start holdfast") {
		t.Errorf("message %q or remedy %q does not help", e.Message, e.Remedy)
	}
}

// TestGeneratedIsFresh runs the generator again where it is installed.
func TestGeneratedIsFresh(t *testing.T) {
	tools := generatorPath(t)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "protoc", "-I", "v1", "--go_out="+dir, "--go_opt=paths=source_relative",
		"--connect-go_out="+dir, "--connect-go_opt=paths=source_relative,simple", "holdfast.proto")
	cmd.Env = append(os.Environ(), "PATH="+tools)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	version := regexp.MustCompile(`(?m)^// \s*protoc .*$`)
	for _, name := range []string{"holdfast.pb.go", "apiv1connect/holdfast.connect.go"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(filepath.Join("v1", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(version.ReplaceAll(got, nil), version.ReplaceAll(have, nil)) {
			t.Errorf("v1/%s is not what the generator makes of holdfast.proto: run go generate ./internal/api", name)
		}
	}
}

// generatorPath returns a PATH with the generators, and skips the test where
// protoc or a plugin of the version in use is missing.
func generatorPath(t *testing.T) string {
	t.Helper()
	path := os.Getenv("PATH")
	if home, err := os.UserHomeDir(); err == nil {
		path += string(os.PathListSeparator) + filepath.Join(home, "go", "bin")
	}
	t.Setenv("PATH", path)
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("protoc is not installed:", err)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("this test binary has no build information")
	}
	for plugin, module := range map[string]string{
		"protoc-gen-go":         "google.golang.org/protobuf",
		"protoc-gen-connect-go": "connectrpc.com/connect",
	} {
		out, err := exec.CommandContext(t.Context(), plugin, "--version").Output()
		if err != nil {
			t.Skipf("%s is not installed: %v", plugin, err)
		}
		for _, dep := range info.Deps {
			want := strings.TrimPrefix(dep.Version, "v")
			if dep.Path == module && !strings.HasSuffix(strings.TrimSpace(string(out)), want) {
				t.Skipf("%s is version %s, the module is %s", plugin, bytes.TrimSpace(out), dep.Version)
			}
		}
	}
	return path
}
