package ledger

import (
	"errors"
	"strings"
)

// keyed is a row whose identity is read from its keys. The columns that repeat
// it are for people: text in a column may have been cleaned or cut, and a row
// has to be found again under the key it came from.
type keyed interface {
	identify(pk, rk string) error
}

// setIdentity sets a cluster and a name from the keys of a row.
func setIdentity(cluster, name *string, pk, rk string) error {
	var errs [2]error
	*cluster, errs[0] = unescape(pk)
	*name, errs[1] = unescape(rk)
	return errors.Join(errs[0], errs[1])
}

func (c *Cluster) identify(pk, _ string) (err error) {
	c.Cluster, err = unescape(pk)
	return err
}

func (i *Intent) identify(_, rk string) (err error) {
	i.ID, err = unescape(strings.TrimPrefix(rk, kindIntent))
	return err
}

func (x *Fact) identify(_, rk string) (err error) {
	x.ID, err = unescape(strings.TrimPrefix(rk, kindFact))
	return err
}

func (n *Node) identify(pk, rk string) error { return setIdentity(&n.Cluster, &n.Name, pk, rk) }

func (a *Nodearray) identify(pk, rk string) error { return setIdentity(&a.Cluster, &a.Name, pk, rk) }

func (c *Command) identify(pk, rk string) error { return setIdentity(&c.Cluster, &c.ID, pk, rk) }

func (j *Job) identify(pk, rk string) error {
	rk, j.Group = strings.CutPrefix(rk, kindGroup)
	return setIdentity(&j.Cluster, &j.ID, pk, rk)
}

func (d *Decision) identify(pk, rk string) error {
	cluster, _, _ := strings.Cut(pk, "|")
	_, id, _ := strings.Cut(rk, "|")
	return setIdentity(&d.Cluster, &d.ID, cluster, id)
}

func (x *Failure) identify(pk, _ string) (err error) {
	x.Cluster, err = unescape(pk)
	return err
}

func (p *Policy) identify(pk, rk string) error { return setIdentity(&p.Cluster, &p.Version, pk, rk) }
