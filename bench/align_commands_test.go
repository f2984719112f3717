//go:build bench

package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
)

// commandServers are the instances of TestAlignCommands.
const commandServers = 100_000

// TestAlignCommands carries a platform with all odd rows from one server to another by the
// program, as an operator does, and looks how long each command takes and how much memory
// it has. In the end all is equal and holds, and the source is as it was.
func TestAlignCommands(t *testing.T) {
	n := alignMany(t, commandServers)
	from, to := aligntest.MariaDB(t, alignTuning...), aligntest.MariaDB(t, alignTuning...)
	platform := aligntest.Fill(t, from, alignSeed, n)
	to.Load("zed-schema.sql", "zed_", "zed_")
	platform.Plane(to, "zed_")
	args := []string{"--profile", "openstack-liberty-zed", "--source", from.DSN(), "--target", to.DSN(), "-o", "json",
		"--ids", platform.IDs(t, map[string]map[string]string{"project": nil, "user": nil, "availability_zone": nil,
			"pool": nil, "volume_type": nil, "service": nil})}
	for _, db := range slices.Sorted(maps.Keys(alignSourceDBs)) {
		args = append(args, "--source-db", db+"=liberty_"+db)
	}
	for _, db := range slices.Sorted(maps.Keys(alignTargetDBs)) {
		args = append(args, "--target-db", db+"=zed_"+db)
	}
	databases := slices.Sorted(maps.Values(alignSourceDBs))
	before := aligntest.Checksums(t, from, databases...)
	var said []string
	var verified struct {
		Equal  bool
		Tables []struct {
			Rows int64 `json:"target_rows"`
		}
		Checks []struct {
			Holds bool
		}
	}
	for _, command := range []string{"plan", "run", "verify"} {
		cmd := exec.CommandContext(t.Context(), program(t), append([]string{"transition", "db", command}, args...)...)
		var out, fault bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &fault
		seconds, peak, err := timed(cmd)
		if err != nil {
			t.Fatalf("%s: %v: %s%s", command, err, fault.String(), out.String())
		}
		if err := json.Unmarshal(out.Bytes(), &verified); err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprintf("%s %.1f s, %.0f MB", command, seconds, peak))
	}
	if !verified.Equal || slices.ContainsFunc(verified.Checks, func(c struct{ Holds bool }) bool { return !c.Holds }) {
		t.Fatalf("%+v", verified)
	}
	if after := aligntest.Checksums(t, from, databases...); !maps.Equal(before, after) {
		t.Fatal("the source has changed")
	}
	var rows int64
	for _, x := range verified.Tables {
		rows += x.Rows
	}
	result(t, "platform of %d instances from Liberty to Zed by the program, from server to server: %s resident at "+
		"most; %d rows of %d tables, all equal, all %d checks hold, the source has the checksums of before; load %s",
		n, strings.Join(said, ", "), rows, len(verified.Tables), len(verified.Checks), loadNow())
}
