/* A stand-in for NVIDIA's management library beside that for the driver: two GPUs in the reverse of the driver's order.

The clock is 1590 MHz while the driver is being called (CUDA_STANDIN_LOG grows) and 300 MHz from 100 ms after it.
NVML_STANDIN_REFUSES=name,name: these calls answer "not supported". NVML_STANDIN_PROCESSES=7,8: who is on the GPU.
NVML_STANDIN_REASONS=2: why clocks are what they are. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
struct device { const char *uuid; };
struct process { unsigned pid; unsigned long long memory; unsigned instance, compute_instance; };

static struct device devices[] = {
    {"GPU-11111111-1111-1111-1111-111111111111"}, {"GPU-00000000-0000-0000-0000-000000000000"},
};

static int refused(const char *name) {
    const char *all = getenv("NVML_STANDIN_REFUSES");
    return all && (!strcmp(all, "all") || strstr(all, name));
}

#define ANSWERS(name) do { if (refused(name)) return NOT_SUPPORTED; } while (0)

static int is_busy(void) {
    const char *path = getenv("CUDA_STANDIN_LOG");
    struct stat about;
    struct timespec now;
    if (!path || stat(path, &about)) return 0;
    clock_gettime(CLOCK_REALTIME, &now);
    return (now.tv_sec - about.st_mtim.tv_sec) * 1e3 + (now.tv_nsec - about.st_mtim.tv_nsec) / 1e6 < 100;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return SUCCESS; }
int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    ANSWERS("DriverVersion");
    const char *serial = getenv("NVML_STANDIN_DRIVER");
    snprintf(version, length, "%s", serial ? serial : "580.65.06");
    return SUCCESS;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **device) {
    ANSWERS("HandleByIndex");
    if (index > 1) return NOT_FOUND;
    *device = &devices[index];
    return SUCCESS;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **device) {
    ANSWERS("HandleByUUID");
    for (int i = 0; i < 2; i++)
        if (!strcmp(uuid, devices[i].uuid)) { *device = &devices[i]; return SUCCESS; }
    return NOT_FOUND;
}
int nvmlDeviceGetClockInfo(struct device *device, unsigned kind, unsigned *mhz) {
    (void)device; (void)kind;
    ANSWERS("ClockInfo");
    *mhz = is_busy() ? 1590 : 300;
    return SUCCESS;
}
int nvmlDeviceGetTemperature(struct device *device, unsigned sensor, unsigned *celsius) {
    (void)sensor;
    ANSWERS("Temperature");
    *celsius = device == &devices[1] ? 41 : 62; /* which tells the two apart */
    return SUCCESS;
}
int nvmlDeviceGetPowerUsage(struct device *device, unsigned *milliwatts) {
    (void)device;
    ANSWERS("PowerUsage");
    *milliwatts = 68500;
    return SUCCESS;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(struct device *device, unsigned long long *reasons) {
    (void)device;
    ANSWERS("Reasons");
    const char *given = getenv("NVML_STANDIN_REASONS");
    *reasons = given ? strtoull(given, NULL, 0) : 0;
    return SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v3(struct device *device, unsigned *count, struct process *processes) {
    (void)device;
    ANSWERS("Processes");
    const char *given = getenv("NVML_STANDIN_PROCESSES");
    unsigned found = 0, room = *count;
    while (given && *given) {
        char *end;
        unsigned pid = strtoul(given, &end, 10);
        if (processes && found < room) processes[found] = (struct process){.pid = pid};
        found++;
        given = *end ? end + 1 : end;
    }
    *count = found;
    return !found || (processes && found <= room) ? SUCCESS : INSUFFICIENT_SIZE;
}
