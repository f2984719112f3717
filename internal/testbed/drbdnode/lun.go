package drbdnode

import (
	"net"
	"testing"

	"holdfast/internal/testbed/tgt"
	"holdfast/internal/testbed/try"
)

// lunTarget is the iSCSI target of a LUN.
const lunTarget = "iqn.2020-05.example.lab:shared"

// LUN is unit 1 of an iSCSI target on this machine's loopback, which has SCSI-3 persistent
// reservations. The nodes' QEMU is the initiator, and passes SG_IO through.
type LUN struct{ portal string }

// NewLUN serves an empty unit of that many bytes until the end of the test.
func NewLUN(t testing.TB, bytes int64) *LUN {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	portal := l.Addr().String()
	try.Must(t, l.Close())
	tgt.Serve(t, lunTarget, portal, bytes, nil)
	return &LUN{portal}
}
