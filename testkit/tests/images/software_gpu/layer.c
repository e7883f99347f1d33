// A Vulkan layer that gives every device out as a virtual GPU, so that the predictor, which takes no driver that computes on the
// CPU, takes Mesa's. It changes nothing else.
#include <string.h>
#include <vulkan/vulkan.h>
#include <vulkan/vk_layer.h>

static PFN_vkGetInstanceProcAddr next;
static PFN_vkGetPhysicalDeviceProperties properties;
static PFN_vkGetPhysicalDeviceProperties2 properties2;

static VKAPI_ATTR void VKAPI_CALL get_properties(VkPhysicalDevice device, VkPhysicalDeviceProperties *found) {
  properties(device, found);
  found->deviceType = VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU;
}

static VKAPI_ATTR void VKAPI_CALL get_properties2(VkPhysicalDevice device, VkPhysicalDeviceProperties2 *found) {
  properties2(device, found);
  found->properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU;
}

// The loader gives each layer the next one in a list beside the application's wishes, and the layer moves the list on.
static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *wishes, const VkAllocationCallbacks *allocator,
                                                      VkInstance *instance) {
  VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)wishes->pNext;
  while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO))
    link = (VkLayerInstanceCreateInfo *)link->pNext;
  if (!link) return VK_ERROR_INITIALIZATION_FAILED;
  next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  PFN_vkCreateInstance create = (PFN_vkCreateInstance)next(NULL, "vkCreateInstance");
  VkResult result = create ? create(wishes, allocator, instance) : VK_ERROR_INITIALIZATION_FAILED;
  if (result != VK_SUCCESS) return result;
  properties = (PFN_vkGetPhysicalDeviceProperties)next(*instance, "vkGetPhysicalDeviceProperties");
  properties2 = (PFN_vkGetPhysicalDeviceProperties2)next(*instance, "vkGetPhysicalDeviceProperties2");
  if (!properties2)
    properties2 = (PFN_vkGetPhysicalDeviceProperties2)next(*instance, "vkGetPhysicalDeviceProperties2KHR");
  return VK_SUCCESS;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL find(VkInstance instance, const char *name) {
  if (!strcmp(name, "vkGetInstanceProcAddr")) return (PFN_vkVoidFunction)find;
  if (!strcmp(name, "vkCreateInstance")) return (PFN_vkVoidFunction)create_instance;
  if (!strcmp(name, "vkGetPhysicalDeviceProperties")) return (PFN_vkVoidFunction)get_properties;
  if (!strncmp(name, "vkGetPhysicalDeviceProperties2", 30)) return (PFN_vkVoidFunction)get_properties2;
  return next ? next(instance, name) : NULL;
}

VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *answer) {
  answer->loaderLayerInterfaceVersion = 2;
  answer->pfnGetInstanceProcAddr = find;
  answer->pfnGetDeviceProcAddr = NULL;
  answer->pfnGetPhysicalDeviceProcAddr = NULL;
  return VK_SUCCESS;
}
