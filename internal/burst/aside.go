package burst

import "slices"

// noteBack notes the jobs that were taken back before. A record may stand for
// its whole array.
func (o *overflow) noteBack(i int) {
	record := &o.memory.Jobs[i]
	if record.TakenBackAt.IsZero() {
		return
	}
	o.back[record.ID] = i
	if record.ArrayBack {
		o.back[wholeArray(record.ID)] = i
	}
}

// noteListed notes the arrays of which released tasks wait with the cloud in
// their list: who takes another task of them back means that task.
func (o *overflow) noteListed(j *judgement) {
	if !slices.ContainsFunc(j.group.Partitions, func(p string) bool { return o.clouds[p] }) {
		return
	}
	for _, job := range j.ours {
		o.listed[wholeArray(job)] = true
	}
}

// leave notes that the owner of a released job, or an admin, took the cloud off
// its list. It gives back money and room and is not released again.
func (o *overflow) leave(g *Group, record CloudJob) Reason {
	o.free(record)
	record.RevokedAt, record.TakenBackAt, record.Committed = o.now, o.now, 0
	record.ArrayBack = wholeArray(record.ID) != record.ID && !o.listed[wholeArray(record.ID)]
	record.Home, record.Nodes = o.home(g), max(g.Nodes, 1)
	o.keep(record)
	o.noteBack(o.acted[record.ID])
	return o.takenBack(g, record.ID)
}

// takenBack reports whether a job stays because it was taken back. One that was
// submitted or requeued since is as any other.
func (o *overflow) takenBack(g *Group, job string) Reason {
	i, back := o.back[job]
	if !back {
		i, back = o.back[wholeArray(job)]
	}
	if !back || g.OldestSubmit.After(o.memory.Jobs[i].TakenBackAt) {
		return Reason{}
	}
	return o.memory.Jobs[i].WhyRevoked()
}

// WhyRevoked says why a job was revoked whose owner took it back, whenever that
// was. It is empty for others: their commands say why.
func (j CloudJob) WhyRevoked() Reason {
	if j.TakenBackAt.IsZero() {
		return Reason{}
	}
	return because(ReasonTakenBack, "its owner or an admin took it back from %s", j.Nodearray)
}

// setAside takes jobs out of the fresh ones about which Slurm has to answer
// first, whose own list of partitions names the cloud, or that were taken back.
func (o *overflow) setAside(j *judgement) (why Reason) {
	inCloud := slices.ContainsFunc(j.group.Partitions, func(p string) bool { return o.clouds[p] })
	if !inCloud && len(o.commanded)+len(o.back) == 0 {
		return why
	}
	var fresh []string
	for _, job := range j.fresh {
		back, c := o.takenBack(j.group, job), o.commanded[job]
		switch {
		case c != nil && !o.soon(c.ExpiresAt):
			why = because(ReasonCommandOpen, "Slurm has not answered %s yet", c.Kind)
		case inCloud:
			why = o.foreign(j, job)
		case back.Code != "":
			why = back
		default:
			fresh = append(fresh, job)
			continue
		}
		j.tell(job, why)
	}
	j.fresh = fresh
	return why
}

// foreign reports why a job whose list names a cloud partition already is not
// released: it was put there by its owner, or its revocation is on its way.
func (o *overflow) foreign(j *judgement, job string) Reason {
	k, known := o.acted[job]
	if !known || !o.memory.Jobs[k].TakenBackAt.IsZero() {
		return because(ReasonInCloud, "the job's own list of partitions names the cloud")
	}
	why := because(ReasonRevoked, "taken back from %s", o.memory.Jobs[k].Nodearray)
	o.send(Command{Kind: RevokeJobs, Nodearray: o.memory.Jobs[k].Nodearray, Partitions: o.home(j.group), Reason: why}, job)
	return why
}
