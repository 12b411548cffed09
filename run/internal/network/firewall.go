package network

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A packet has to pass every chain at a hook, whichever table it is in. Docker, ufw
// and others have the FORWARD chain of iptables drop what it has no rule for: our
// bridges get rules there, as docker's do. In other chains nothing is changed; the
// user is told.

// passForeign has other tables' forward chains, which are among chains, let the
// packets of n's bridge pass.
func (t *table) passForeign(n *Network, chains []*nftables.Chain) (warnings []string, err error) {
	for _, c := range chains {
		switch {
		case !forwards(c) || c.Table.Name == tableName:
		case c.Table.Name == "firewalld":
			warnings = append(warnings, fmt.Sprintf("firewalld may reject packets of network %s: firewall-cmd --zone=trusted --add-interface=%s lets them pass", n.Name, n.Bridge))
		case c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop:
		case isIptables(c):
			if err := t.passChain(c, n.Bridge); err != nil {
				return nil, err
			}
		default:
			warnings = append(warnings, fmt.Sprintf("chain %s of nft table %s drops forwarded packets: it needs rules that accept interface %s", c.Name, c.Table.Name, n.Bridge))
		}
	}
	return warnings, t.flush("let packets pass the FORWARD chain of iptables")
}

// bothWays are what our rules in iptables' chain look at.
var bothWays = []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME}

// passChain gathers the rules for a bridge in iptables' chain c, if they are not there.
func (t *table) passChain(c *nftables.Chain, bridge string) error {
	rules, err := t.conn.GetRules(c.Table, c)
	if err != nil {
		return fmt.Errorf("list rules of iptables: %w", err)
	}
	rules = slices.DeleteFunc(rules, func(r *nftables.Rule) bool { return !passes(r, bridge) })
	if len(rules) == len(bothWays) {
		return nil
	}
	for _, r := range rules {
		if err := t.conn.DelRule(r); err != nil {
			return err
		}
	}
	for _, key := range bothWays {
		t.conn.InsertRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: passInterface(key, bridge)})
	}
	return nil
}

// forwards reports whether c decides about forwarded packets.
func forwards(c *nftables.Chain) bool {
	return c.Type == nftables.ChainTypeFilter && c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward &&
		slices.Contains([]nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}, c.Table.Family)
}

// isIptables reports whether c is the FORWARD chain of iptables or ip6tables.
func isIptables(c *nftables.Chain) bool {
	return c.Table.Name == "filter" && c.Name == "FORWARD" && c.Table.Family != nftables.TableFamilyINet
}

// passInterface is a rule in the form that the iptables command understands.
func passInterface(key expr.MetaKey, bridge string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(bridge), 0)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// forgetForeign removes the rules that passForeign made.
func (t *table) forgetForeign(bridge string) error {
	chains, err := t.conn.ListChains()
	if err != nil {
		return fmt.Errorf("list nft chains: %w", err)
	}
	for _, c := range chains {
		if !forwards(c) || !isIptables(c) {
			continue
		}
		rules, err := t.conn.GetRules(c.Table, c)
		if err != nil {
			return fmt.Errorf("list rules of iptables: %w", err)
		}
		for _, r := range rules {
			if passes(r, bridge) {
				if err := t.conn.DelRule(r); err != nil {
					return err
				}
			}
		}
	}
	if err := t.flush("remove rules of iptables"); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// passes reports whether r is one of our rules for a bridge.
func passes(r *nftables.Rule, bridge string) bool {
	if len(r.Exprs) != 4 {
		return false
	}
	cmp, isCmp := r.Exprs[1].(*expr.Cmp)
	verdict, isVerdict := r.Exprs[3].(*expr.Verdict)
	return isCmp && isVerdict && verdict.Kind == expr.VerdictAccept && bytes.Equal(cmp.Data, append([]byte(bridge), 0))
}
