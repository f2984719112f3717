package certificates

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"time"

	"holdfast/internal/inventory"
	"holdfast/internal/lib/pki"
)

// DueAt is when a certificate is to be renewed: when a third of its life is left, or up
// to a twelfth of it earlier. That part is made of its serial number, so that the hosts
// of a cluster do not come all at once, and each comes at the same time however often
// its agent is started.
func DueAt(c *x509.Certificate) time.Time {
	life := pki.Life(c)
	sum := sha256.Sum256(c.SerialNumber.Bytes())
	part := time.Duration(binary.BigEndian.Uint16(sum[:]))
	return c.NotAfter.Add(-life/3 - life/12/(1<<16)*part)
}

// Warning says of certificates what people should know, those first that have ended; ""
// for nothing.
func Warning(all []inventory.Certificate) string {
	text := ""
	for _, state := range []string{inventory.CertExpired, inventory.CertSoon} {
		for _, c := range all {
			if c.State != state {
				continue
			}
			say := "the certificate %q ends on %s"
			if state == inventory.CertExpired {
				say = "the certificate %q ended on %s"
			}
			if text != "" {
				text += "; "
			}
			text += fmt.Sprintf(say, c.Which, c.Ends.UTC().Format("2006-01-02 15:04 MST"))
			if c.Problem != "" {
				text += ": " + c.Problem
			}
		}
	}
	return text
}

func told(which string, c *x509.Certificate, now time.Time) inventory.Certificate {
	return inventory.Certificate{Which: which, Serial: fmt.Sprintf("%x", c.SerialNumber), Ends: c.NotAfter.UTC(),
		State: inventory.CertState(pki.Life(c), c.NotAfter, DueAt(c), now)}
}
