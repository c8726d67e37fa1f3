"""The names of the parameters that the kernel proper hears of, as far as they are known here.

In C every file registers its own, with `early_param`, `__setup` or `core_param`; this is the list for Debian's 6.1 on
amd64. What is not on it (`nokaslr` and `no5lvl`: only the decompressor reads them) the kernel hands on to process 1.
"""

from __future__ import annotations

NAMES = """
BOOT_IMAGE acpi acpi_apic_instance acpi_backlight acpi_enforce_resources acpi_force_32bit_fadt_addr
acpi_force_table_verification acpi_irq_balance acpi_irq_isa acpi_irq_nobalance acpi_irq_pci acpi_mask_gpe
acpi_no_auto_serialize acpi_no_memhotplug acpi_no_static_ssdt acpi_no_watchdog acpi_os_name acpi_osi acpi_pm_good
acpi_rev_override acpi_rsdp acpi_sci acpi_skip_timer_override acpi_sleep acpi_use_timer_override
acpica_no_return_repair add_efi_memmap align_va_addr alloc_mptable alloc_snapshot amd_iommu amd_iommu_dump
amd_iommu_intr apic apic_extnmi apicpmtimer apm apparmor audit audit_backlog_limit bert_disable bgrt_disable
boot_delay bootconfig cachesize cgroup_debug cgroup_disable cgroup_no_v1 checkreqprot clearcpuid clk_ignore_unused
clock clocksource cma coherent_pool console console_msg_format consoleblank coredump_filter cpu0_hotplug
cpu_init_udelay crash_kexec_post_notifiers crashkernel csdlock_debug debug debug-alternative debug_boot_weak_hash
debug_guardpage_minorder debug_objects debug_pagealloc debugpat default_hugepagesz deferred_probe_timeout delayacct
dhash_entries disable_cpu_apicid disable_mtrr_cleanup disable_mtrr_trim disable_timer_pin_1 disableapic
driver_async_probe dyndbg early_ioremap_debug early_page_ext earlycon earlyprintk edd efi efi_fake_mem
efi_no_storage_paranoia elfcorehdr enable_mtrr_cleanup enforcing erst_disable evm fbcon ftrace ftrace_boot_snapshot
ftrace_dump_on_oops ftrace_filter ftrace_graph_filter ftrace_graph_max_depth ftrace_graph_notrace ftrace_notrace
fw_devlink gart_fix_e820 gather_data_sampling gbpages gpt hardened_usercopy hardlockup_all_cpu_backtrace hashdist
hest_disable hibernate highres hlt hostname hpet hugepages hugepagesz hugetlb_cma hugetlb_free_vmemmap hung_task_panic
hv_nopvspin hvc_iucv ibt idle ignore_loglevel ignore_rlimit_data ihash_entries ima_appraise ima_audit ima_hash
ima_policy ima_tcb ima_template indirect_target_selection init init_on_alloc init_on_free init_pkru initcall_blacklist
initcall_debug initramfs_async initrd initrdmem integrity_audit intel_iommu intel_pstate intremap io_delay iomem iommu
irqaffinity irqfixup irqpoll irqtime isolcpus ivrs_acpihid ivrs_hpet ivrs_ioapic keep_bootcon keepinitrd kernelcore
kexec kgdbcon kgdbwait kprobe_event l1d_flush l1tf lapic lapic_timer_c2_ok load_ramdisk lockdown log_buf_len loglevel
lpj lsm maxcpus mce mds mem mem_sleep_default memblock memhp_default_state memmap memory_corruption_check
memory_corruption_check_period memory_corruption_check_size memtest mhash_entries mitigations mminit_loglevel
mmio_stale_data module_blacklist movable_node movablecore mphash_entries mtrr_chunk_size mtrr_cleanup_debug
mtrr_gran_size mtrr_spare_reg_nr netdev nfsaddrs nfsrootdebug nmi_watchdog no-kvmapf no-kvmclock no-kvmclock-vsyscall
no-steal-acc no-vmw-sched-clock no_console_suspend no_debug_objects no_file_caps no_hash_pointers no_ipi_broadcast
no_timer_check noaliencache noapic noapictimer noautogroup noexec noexec32 nofsgsbase nogbpages nohibernate nohlt
nohpet nohugeiomap nohugevmalloc nohz nohz_full noinitrd noinvpcid noirqdebug nokgdbroundup nolapic nolapic_timer
nomce nomodeset nomodule nonmi_ipi nopat nopcid nopku nopv nopvspin norandmaps noreplace-smp noresume nosgx nosmp
nosmt nosoftlockup nospectre_v1 notsc nowatchdog nox2apic nr_cpus ntp_tick_adj numa numa_balancing numa_zonelist_order
oops page_owner page_poison page_table_check panic panic_on_taint panic_on_warn panic_print pause_on_oops pci
pcie_aspm pcie_hp pcie_ports percpu_alloc pirq pm_debug_messages pmtmr pnp pnpacpi possible_cpus preempt
print-fatal-signals profile prompt_ramdisk psi quiet ramdisk_start randomize_kstack_offset rdinit rdrand rdt reboot
reg_file_data_sampling relax_domain_level resched_latency_warn_ms reserve reset_devices resume resume_offset
resumedelay resumewait retain_initrd retbleed ring3mwait ro rodata root rootdelay rootflags rootfstype rootwait rw
sched_thermal_decay_shift sched_verbose schedstats security selinux serialnumber sev show_lapic skew_tick
slab_max_order slab_merge slab_nomerge slub_debug slub_max_order slub_merge slub_min_objects slub_min_order
slub_nomerge softlockup_all_cpu_backtrace softlockup_panic spec_rstack_overflow spectre_bhi srbds stack_depot_disable
stack_guard_gap stacktrace strict_sas_size swapaccount swiotlb sysrq_always_enabled test_suspend thash_entries
threadirqs tp_printk tp_printk_stop_on_boot trace_buf_size trace_clock trace_event trace_options traceoff_on_warning
tracing_thresh transparent_hugepage tsa tsc tsc_early_khz tsx_async_abort uhash_entries unknown_nmi_panic
update_mptable usb-handoff uv_memblksize vdso vdso32 video vmscape vsyscall vt watchdog_thresh x2apic_phys xen
xen_512gb_limit xen_emul_unplug xen_nopv xen_timer_slop
"""
KNOWN_PARAMETERS = frozenset(NAMES.split())

# What i386 does not have of them (NUMA, memory hotplug, vmemmap, vsyscalls), and what only i386 has.
NOT_I386 = """
amd_iommu amd_iommu_dump amd_iommu_intr gart_fix_e820 gbpages hashdist hugetlb_free_vmemmap memhp_default_state
movable_node nofsgsbase nogbpages nosgx numa numa_balancing numa_zonelist_order sev uv_memblksize vsyscall
xen_512gb_limit
"""
ONLY_I386 = "forcepae highmem no387 nofxsr vmalloc"
KNOWN_PARAMETERS_I386 = KNOWN_PARAMETERS - frozenset(NOT_I386.split()) | frozenset(ONLY_I386.split())
