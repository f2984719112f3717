package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"holdfast/testbed/try"
)

var update = flag.Bool("update", false, "write comments.json")

// TestCommentsAreFresh compares comments.json with the .proto files, where protoc is installed; -update writes it.
func TestCommentsAreFresh(t *testing.T) {
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("protoc is not installed:", err)
	}
	set := filepath.Join(t.TempDir(), "set")
	args := []string{"-I", "../../api/v1", "--include_source_info", "--descriptor_set_out=" + set}
	for _, f := range files {
		args = append(args, f.Path())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "protoc", args...).CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, out)
	}
	raw, err := os.ReadFile(set)
	try.Must(t, err)
	var fds descriptorpb.FileDescriptorSet
	try.Must(t, proto.Unmarshal(raw, &fds))
	all, err := protodesc.NewFiles(&fds)
	try.Must(t, err)
	out := map[protoreflect.FullName]string{}
	all.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		collect(f, f.Messages(), out)
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				note(f, s.Methods().Get(j), out)
			}
		}
		return true
	})
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	try.Must(t, e.Encode(out))
	if *update {
		try.Must(t, os.WriteFile("comments.json", want.Bytes(), 0o644))
		return
	}
	if !bytes.Equal(want.Bytes(), commentsText) {
		t.Error("comments.json is not what the .proto files have: go test ./internal/web/rest -run TestCommentsAreFresh -update")
	}
}

func collect(f protoreflect.FileDescriptor, ms protoreflect.MessageDescriptors, out map[protoreflect.FullName]string) {
	for i := range ms.Len() {
		m := ms.Get(i)
		note(f, m, out)
		for j := range m.Fields().Len() {
			note(f, m.Fields().Get(j), out)
		}
		collect(f, m.Messages(), out)
	}
}

// note notes what is said of a thing, before it and behind it.
func note(f protoreflect.FileDescriptor, d protoreflect.Descriptor, out map[protoreflect.FullName]string) {
	at := f.SourceLocations().ByDescriptor(d)
	text := strings.Join(strings.Fields(at.LeadingComments+" "+at.TrailingComments), " ")
	if text != "" {
		out[d.FullName()] = text
	}
}

// TestThePageHasAllResources compares the table of docs/api.md; -update writes it.
func TestThePageHasAllResources(t *testing.T) {
	const page, mark = "../../../docs/api.md", "-update writes this table -->\n"
	text, err := os.ReadFile(page)
	try.Must(t, err)
	before, table, found := strings.Cut(string(text), mark)
	if !found {
		t.Fatal("the page has no mark of the table")
	}
	want := "\n| resource | least role | what it does |\n|---|---|---|\n"
	for _, r := range Resources() {
		want += "| `" + r.Method + " " + strings.TrimPrefix(r.Path, root) + "` | " + r.Role + " | " + r.Text + " |\n"
	}
	if *update {
		try.Must(t, os.WriteFile(page, []byte(before+mark+want), 0o644))
		return
	}
	if table != want {
		t.Error("docs/api.md has another table: go test ./internal/web/rest -run TestThePageHasAllResources -update")
	}
}
