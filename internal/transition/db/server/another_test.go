package server_test

import (
	"errors"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// TestAnotherServer: an address that leads to another server than before is told.
func TestAnotherServer(t *testing.T) {
	need.More(t)
	rig := aligntest.MariaDB(t)
	s := rig.Server("source")
	if _, err := s.DB.ExecContext(t.Context(), "SET GLOBAL server_id = 77"); err != nil {
		t.Fatal(err)
	}
	s.DB.SetMaxIdleConns(0)
	err := s.DB.PingContext(t.Context())
	if !errors.Is(err, server.ErrOther) || !strings.Contains(err.Error(), "server_id 77, it was ") || server.Passing(err) {
		t.Errorf("error %v", err)
	}
}
