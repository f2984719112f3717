package mariadb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/lib/fail"
)

// The header of the first event of a binary log, which describes the format: behind the magic
// number come a time (4 bytes), the type, the number of the server (4), the length (4), the
// next position (4), and flags (2). See "Format description event" of MariaDB's replication protocol.
const (
	logMagic      = "\xfebin"
	formatType    = 15
	typeAt        = len(logMagic) + 4
	flagsAt       = len(logMagic) + 17
	flagInUse     = 1 // LOG_EVENT_BINLOG_IN_USE_F: the log was not closed
	logHeaderSize = len(logMagic) + 19
)

// markCrashed marks the last log of an index as not closed: the next start of the server
// recovers by it, transaction by transaction, as after a crash. It reports false when there is no
// log, or it is marked so already. The server does not run.
func markCrashed(index, datadir string) (marked bool, err error) {
	path, _, err := lastLog(index, datadir)
	if err != nil || path == "" {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, logHeaderSize)
	if _, err := f.ReadAt(head, 0); errors.Is(err, io.EOF) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if !bytes.HasPrefix(head, []byte(logMagic)) || head[typeAt] != formatType {
		return false, fail.Errorf(fail.Failed, "%s begins with %x: want the header of a binary log", path, head)
	}
	if head[flagsAt]&flagInUse != 0 {
		return false, nil
	}
	if _, err := f.WriteAt([]byte{head[flagsAt] | flagInUse}, int64(flagsAt)); err != nil {
		return false, err
	}
	return true, f.Sync()
}

// MarkCrashed lets the next start of a server that has ended at its start recover by its binary
// log, as after a crash, whatever its last end was. It reports false when that changes
// nothing: it has no such log, or would recover anyway. The program itself says where its log is.
func (c *Command) MarkCrashed(ctx context.Context) (bool, error) {
	cmd := exec.CommandContext(ctx, c.Path, slices.Concat(c.Args, []string{"--verbose", "--help"})...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		return false, fmt.Errorf("ask %s for its settings: %w", c.Path, err)
	}
	index := logIndex(out)
	if index == "" {
		return false, nil
	}
	if !filepath.IsAbs(index) {
		index = filepath.Join(c.Datadir, index)
	}
	return markCrashed(index, c.Datadir)
}

// logIndex reads where the index of the binary log is from what a server says of its settings; ""
// when it has none.
func logIndex(help []byte) string {
	var base, index string
	for s := bufio.NewScanner(bytes.NewReader(help)); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), " ")
		value = strings.TrimSpace(value)
		if value == "(No default value)" {
			continue
		}
		switch name {
		case "log-bin":
			base = value
		case "log-bin-index":
			index = value
		}
	}
	switch {
	case base == "" || base == "0": // as skip-log-bin
		return ""
	case index != "":
		return index
	}
	return base + ".index"
}

// lastLog is the file of the binary log that a server wrote last, by the log's index, and its
// size in bytes. "" when there is none.
func lastLog(index, datadir string) (path string, size int64, err error) {
	logs, err := logFiles(index, datadir)
	if err != nil || len(logs) == 0 {
		return "", 0, err
	}
	path = logs[len(logs)-1]
	fi, err := os.Stat(path)
	if err != nil {
		return "", 0, fail.Errorf(fail.Failed, "the binary log that %s names last: %w", index, err)
	}
	return path, fi.Size(), nil
}

// logFiles are the paths of a binary log's files, the oldest first, by its index; none without one. Names in it may be relative to
// the data directory.
func logFiles(index, datadir string) ([]string, error) {
	text, err := os.ReadFile(index)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	paths := strings.Fields(string(text))
	for i, path := range paths {
		if !filepath.IsAbs(path) {
			paths[i] = filepath.Join(datadir, path)
		}
	}
	return paths, nil
}
