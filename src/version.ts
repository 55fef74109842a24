/**
 * Versions that this program reports. Clients of etcd parse the first as plain numbers and switch
 * features on by it; kvd's own version has its own place (field `kvd` of /version, header `server`).
 */
export const ETCD_VERSION = '3.6.0';
export const KVD_VERSION = '0.1.0';
