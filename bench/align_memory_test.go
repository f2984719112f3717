//go:build bench

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
)

const (
	alignChildVar = "HOLDFAST_BENCH_ALIGN_CHILD" // the DSNs of a copy of our own
	alignRowsVar  = "HOLDFAST_BENCH_ROWS"        // how many rows at most: 10000000 needs 8 GB of disk, and some minutes
	alignRowsMost = 1_000_000

	memoryLook = 50 * time.Millisecond
	memoryAim  = 200 // MB
)

// memoryMapping copies one table of rows like those of instance_system_metadata.
const memoryMapping = `
format: 1
name: memory
tables:
  - target: big.meta
    from: big.meta
    columns:
      - copy: [created_at, id, instance_uuid, key, value, deleted]
`

const memoryTable = "CREATE DATABASE big CHARACTER SET utf8mb3; CREATE TABLE big.meta (created_at DATETIME, id INT " +
	"NOT NULL AUTO_INCREMENT PRIMARY KEY, instance_uuid VARCHAR(36) NOT NULL, `key` VARCHAR(255) NOT NULL, `value` VARCHAR(255), deleted INT)"

// TestAlignMemory copies a table from server to server by a process of its own and looks
// at the most memory that it had, for 0.1 million rows, a million and, when it is told
// so, ten.
func TestAlignMemory(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	most := alignRowsMost
	if s := os.Getenv(alignRowsVar); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		most = n
	}
	var points []memoryPoint
	var told []string
	for n := 100_000; n <= most; n *= 10 {
		var p memoryPoint
		t.Run(strconv.Itoa(n), func(t *testing.T) { p = memoryOf(t, n) })
		if t.Failed() {
			return
		}
		points = append(points, p)
		told = append(told, fmt.Sprintf("%d rows %.1f MB (%.1f s)", p.rows, p.peak, p.seconds))
	}
	result(t, "most memory of a process that copies a table from server to server, resident: %s (aim: the same for "+
		"all, below %d MB; drawn in align-memory.svg); load %s", strings.Join(told, ", "), memoryAim, loadNow())
	if err := os.WriteFile("align-memory.svg", []byte(memoryPlot(points)), 0o644); err != nil {
		t.Fatal(err)
	}
}

type memoryPoint struct {
	rows          int
	peak, seconds float64 // MB
}

func memoryOf(t *testing.T, n int) memoryPoint {
	from, to := aligntest.MariaDB(t, alignTuning...), aligntest.MariaDB(t, alignTuning...)
	from.SQL(memoryTable + fmt.Sprintf("; USE big; INSERT INTO meta SELECT '2016-03-01 10:00:00', seq, "+
		"INSERT(INSERT(INSERT(INSERT(MD5(seq DIV 10), 21, 0, '-'), 17, 0, '-'), 13, 0, '-'), 9, 0, '-'), "+
		"CONCAT('image_key_', seq %% 10), MD5(seq), 0 FROM seq_1_to_%d", n))
	to.SQL(memoryTable)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestAlignMemoryChild$", "-test.count=1")
	cmd.Env = append(os.Environ(), alignChildVar+"="+from.DSN()+"\n"+to.DSN())
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	seconds, peak, err := timed(cmd)
	if err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	if peak == 0 {
		t.Fatal("the process ended before it was looked at")
	}
	if have := strings.TrimSpace(to.SQL("SELECT COUNT(*) AS '' FROM big.meta")); have != strconv.Itoa(n) {
		t.Fatalf("%s rows were copied: want %d", have, n)
	}
	return memoryPoint{rows: n, seconds: seconds, peak: peak}
}

// timed runs a program, and tells how long it took, and how much memory it had, MB.
func timed(cmd *exec.Cmd) (seconds, peak float64, err error) {
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			return time.Since(began).Seconds(), peak, err
		case <-time.After(memoryLook):
			if mb, err := peakOf(cmd.Process.Pid); err == nil { // else it ends just now
				peak = max(peak, mb)
			}
		}
	}
}

// peakOf is the most memory that a process ever had resident, in MB. What getrusage says
// of a child begins with its parent's.
func peakOf(pid int) (float64, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(data), "\nVmHWM:")
	if !ok {
		return 0, errors.New("no VmHWM")
	}
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	return kb / 1024, err
}

// TestAlignMemoryChild is the process that copies.
func TestAlignMemoryChild(t *testing.T) {
	from, to, ok := strings.Cut(os.Getenv(alignChildVar), "\n")
	if !ok {
		t.Skip("TestAlignMemory runs it")
	}
	open := func(role, dsn string) (*server.Server, mapping.Side) {
		s, err := server.Open(t.Context(), role, dsn, server.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		side, err := s.Side(t.Context(), map[string]string{"big": "big"})
		if err != nil {
			t.Fatal(err)
		}
		return s, side
	}
	source, a := open("source", from)
	target, b := open("target", to)
	m, err := mapping.ParseMapping("memory", []byte(memoryMapping))
	if err != nil {
		t.Fatal(err)
	}
	plan := mapping.MakePlan(m, a, b, nil)
	if len(plan.Errors) > 0 {
		t.Fatal(plan.Errors)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := copier.Run(ctx, &plan, "memory", source, target, copier.Options{Log: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
}

// memoryPlot draws the memory over the rows, by the power of ten.
func memoryPlot(points []memoryPoint) string {
	const width, height, left, bottom = 480.0, 240.0, 60.0, 200.0
	x := func(i int) float64 { return left + 60 + float64(i)*150 }
	y := func(mb float64) float64 { return bottom - mb/250*180 }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%g" height="%g" font-family="sans-serif" font-size="12">`+"\n",
		width, height)
	fmt.Fprintf(&b, `<rect width="%g" height="%g" fill="white"/>`+"\n", width, height)
	for mb := 0.0; mb <= 250; mb += 50 {
		fmt.Fprintf(&b, `<path d="M%g %.1fH%g" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end">%g MB</text>`+
			"\n", left, y(mb), width-10, left-6, y(mb)+4, mb)
	}
	fmt.Fprintf(&b, `<path d="M%g %.1fH%g" stroke="#b00" stroke-dasharray="6 4"/>`+"\n", left, y(memoryAim), width-10)
	var line []string
	for i, p := range points {
		line = append(line, fmt.Sprintf("%.1f,%.1f", x(i), y(p.peak)))
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4" fill="#036"/><text x="%.1f" y="%.1f" text-anchor="middle">%.0f</text><text x="%.1f" y="%.1f" text-anchor="middle">%d rows</text>`+"\n", x(i), y(p.peak), x(i), y(p.peak)-10, p.peak, x(i), bottom+20, p.rows)
	}
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#036"/>`+"\n</svg>\n", strings.Join(line, " "))
	return b.String()
}
