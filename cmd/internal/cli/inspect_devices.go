package cli

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// blockIOInspect is the part of HostConfig about block devices. A device's path is
// its numbers, as 8:0.
type blockIOInspect struct {
	BlkioWeight          uint16
	BlkioWeightDevice    []weightInspect
	BlkioDeviceReadBps   []rateInspect
	BlkioDeviceWriteBps  []rateInspect
	BlkioDeviceReadIOps  []rateInspect
	BlkioDeviceWriteIOps []rateInspect
}

type weightInspect struct {
	Path   string
	Weight uint16
}

type rateInspect struct {
	Path string
	Rate uint64
}

func describeBlockIO(io *specs.LinuxBlockIO) blockIOInspect {
	var in blockIOInspect
	if io.Weight != nil {
		in.BlkioWeight = *io.Weight
	}
	for _, d := range io.WeightDevice {
		if d.Weight != nil {
			in.BlkioWeightDevice = append(in.BlkioWeightDevice, weightInspect{fmt.Sprintf("%d:%d", d.Major, d.Minor), *d.Weight})
		}
	}
	for _, list := range []struct {
		to   *[]rateInspect
		from []specs.LinuxThrottleDevice
	}{
		{&in.BlkioDeviceReadBps, io.ThrottleReadBpsDevice}, {&in.BlkioDeviceWriteBps, io.ThrottleWriteBpsDevice},
		{&in.BlkioDeviceReadIOps, io.ThrottleReadIOPSDevice}, {&in.BlkioDeviceWriteIOps, io.ThrottleWriteIOPSDevice},
	} {
		for _, d := range list.from {
			*list.to = append(*list.to, rateInspect{fmt.Sprintf("%d:%d", d.Major, d.Minor), d.Rate})
		}
	}
	return in
}

// deviceRuleText is a --device-cgroup-rule as it was written.
func deviceRuleText(r specs.LinuxDeviceCgroup) string {
	number := func(n *int64) string {
		if n == nil {
			return "*"
		}
		return fmt.Sprint(*n)
	}
	return fmt.Sprintf("%s %s:%s %s", r.Type, number(r.Major), number(r.Minor), r.Access)
}
